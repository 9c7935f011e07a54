"""The walk: channel maps of values as they are found, and what rules may say about a node."""

from collections.abc import Callable, Iterable
from typing import final

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Network
from worker.engine.graph.channels import Boundary, ChannelMap, Channels, Ints, Source, given
from worker.engine.graph.constants import Constants
from worker.engine.graph.layer import Consumer, Findings, Frozen, LayerUse, Refused, Summed, Tie
from worker.engine.graph.shapes import Shape, Shapes
from worker.engine.graph.views import WeightView

Rule = Callable[[ir.Node, "Trace"], None]

_RULES: dict[tuple[str, str], Rule] = {}
_STANDARD = ("", "ai.onnx")
#: The domain of ONNX Runtime's own operators.
MICROSOFT = "com.microsoft"


def rule(*ops: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a rule for operators of one family. Two rules for one operator are a mistake."""

    def register(function: Rule) -> Rule:
        for op in ops:
            if (domain, op) in _RULES:
                raise ValueError(f"two rules for operator {domain}:{op}")
            _RULES[domain, op] = function
        return function

    return register


def rule_for(node: ir.Node) -> Rule | None:
    """The rule of a node's operator, or None."""
    return _RULES.get(("" if node.domain in _STANDARD else node.domain, node.op_type))


def operators() -> list[tuple[str, str]]:
    """(domain, operator) of every rule."""
    return sorted(_RULES)


@final
class Trace:
    """State of one walk over one network."""

    def __init__(self, network: Network, shapes: Shapes, *, heads: bool = False) -> None:
        self.shapes = shapes
        self.format = network.format
        self.heads = heads
        self.constants = Constants(network, shapes)
        self.findings = Findings()
        self._maps: dict[ir.Value, Channels] = {}

    def channels(self, value: ir.Value | None) -> Channels:
        """The channel map of a value; a boundary for model inputs and for what is not known."""
        if value is None:
            return Boundary("an omitted input")
        return self._maps.get(value, Boundary("a model input or a constant"))

    def map_on(self, value: ir.Value | None, axis: int) -> Channels:
        """The map of a value if its channels lie on that axis alone, else a boundary with the reason."""
        found = self.channels(value)
        if isinstance(found, Boundary):
            return found
        shape = self.shapes.of(value)
        wanted = axis + len(shape) if axis < 0 and shape is not None else axis
        if found.axes == (wanted,):
            return found
        reason = f"channels lie on axes {list(found.axes)}, the operator reads axis {axis}"
        self.read(value, reason)
        return Boundary(reason)

    def put(self, value: ir.Value, channels: Channels) -> None:
        """Set the map of a node's output."""
        self._maps[value] = channels

    def read(self, value: ir.Value | None, reason: str = "read as they are") -> None:
        """Note that something without weights reads the value's channels as they are (energy 1)."""
        found = self.channels(value)
        if isinstance(found, ChannelMap):
            self.findings.consumers.append(Consumer(found))
            self.findings.frozen.append(Frozen(found, reason))

    def freeze(self, channels: Channels, reason: str) -> None:
        """Note that none of these channels may be removed."""
        if isinstance(channels, ChannelMap):
            self.findings.frozen.append(Frozen(channels, reason))

    def tie(self, left: Channels, first: Ints, right: Channels, second: Ints) -> None:
        """Note that flat indices of two maps must stay or go together."""
        if isinstance(left, ChannelMap) and isinstance(right, ChannelMap):
            self.findings.ties.append(Tie(left, first.reshape(-1), right, second.reshape(-1)))

    def sums_up(self, node: ir.Node, axes: Iterable[int]) -> None:
        """Note that the node takes statistics over axes of its first operand's channels: over those that
        stay, once some are gone."""
        self.findings.summed.append(Summed(node, 0, tuple(axes)))

    @property
    def maps(self) -> dict[ir.Value, Channels]:
        """Every map found so far."""
        return self._maps

    def shape(self, value: ir.Value | None) -> Shape | None:
        """The shape of a value."""
        return self.shapes.of(value)

    def is_constant(self, value: ir.Value | None) -> bool:
        """True when the value does not depend on the model's inputs, as far as can be told."""
        if value is None or isinstance(self._maps.get(value), ChannelMap):
            return False
        if self.constants.view(value) is not None:
            return True
        fixed = value not in self._maps or self.constants.is_fixed(value)
        return fixed and self.constants.array(value) is not None

    def stop(self, node: ir.Node, reason: str) -> None:
        """The maps end here: what goes in is read as it is, what comes out is unknown."""
        for value in node.inputs:
            self.read(value, f"{label(node)}: {reason}")
        for value in node.outputs:
            self.put(value, Boundary(reason))
        self.findings.boundaries[label(node)] = reason

    def use(
        self,
        node: ir.Node,
        view: WeightView,
        incoming: Channels,
        *,
        inputs: Ints | None = None,
        source: Source | None,
        positions: int | None,
    ) -> None:
        """Note a layer use of a weight in layout (groups, outputs, inputs, *taps), reading `incoming`."""
        groups, outputs, per_group = view.seen_shape()[:3]
        if 0 in view.shape:  # an adapter's place, to be filled when it is run
            name, reason = view.value.name or label(node), "it holds no weights"
            self.findings.refused.append(Refused(name, node.op_type, view, reason))
            self.freeze(incoming, f"{label(node)}: {reason}")
            return
        if inputs is None:
            inputs = np.arange(groups * per_group).reshape(groups, per_group)
        made = np.arange(groups * outputs).reshape(groups, outputs)
        if isinstance(incoming, ChannelMap) and int(np.prod(incoming.sizes)) != inputs.max() + 1:
            reason = "the number of channels does not fit the weight"
            self.findings.consumers.append(Consumer(incoming))
            self.findings.frozen.append(Frozen(incoming, reason))
            incoming = Boundary(reason)
        use = LayerUse(node, view, incoming, inputs, made, source, positions)
        self.findings.uses.append(use)
        if isinstance(incoming, ChannelMap):
            self.findings.consumers.append(Consumer(incoming, use))

    def refuse(self, node: ir.Node, value: ir.Value | None, reason: str) -> None:
        """Note that a tensor that looks like a weight is left alone."""
        view = self.constants.view(value)
        if view is not None and len(view.shape) >= 2:
            name = view.value.name or label(node)
            self.findings.refused.append(Refused(name, node.op_type, view, reason))

    def given_like(self, value: ir.Value, like: ChannelMap, reason: str) -> ChannelMap | None:
        """A given map (energy 1) for a value that joins `like`, over the same axes."""
        return given(f"{value.name}: {reason}", like.axes, like.sizes)


def label(node: ir.Node) -> str:
    """How a node is called in reasons."""
    first = node.outputs[0].name if node.outputs else ""
    return node.name or f"{node.op_type} → {first}"
