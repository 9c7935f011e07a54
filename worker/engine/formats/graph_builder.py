"""From a structure to a plan: places for values, calls with their attributes read, functions put in line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import onnx_ir as ir
import torch
from torch import Tensor

from worker.engine.errors import InvalidModelError, InvalidRecipeError
from worker.engine.formats.base import Network
from worker.engine.formats.graph_plan import Plan, Step
from worker.engine.formats.graph_tensors import to_torch
from worker.engine.formats.graph_weights import is_stored
from worker.engine.formats.operators import Call, Implementation, Sizes, find
from worker.engine.formats.operators.call import Mode
from worker.engine.formats.operators.registry import FIRST_OPSET
from worker.engine.formats.operators.sizes import sizes_of

#: Operators that give something else at every call, and those whose bodies are run.
_UNFOLDED = frozenset(
    "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial If Loop Scan".split()
)


@final
@dataclass(frozen=True)
class Place:
    """Where a value lies in the frame; `sizes`: where it lies as host integers, if fixed and small."""

    number: int
    sizes: int | None = None


@final
@dataclass(frozen=True, eq=False)
class Scope:
    """What a graph, a body or a call of a function sees: values, opsets, attributes of the call."""

    opsets: Mapping[str, int]
    attributes: Mapping[str, ir.Attr] = field(default_factory=dict)
    outer: "Scope | None" = None
    places: dict[ir.Value, Place] = field(default_factory=dict)

    def find(self, value: ir.Value) -> Place | None:
        """The place of a value made here or around."""
        scope: Scope | None = self
        while scope is not None:
            if value in scope.places:
                return scope.places[value]
            scope = scope.outer
        return None


@final
class Builder:
    """Makes the plan of a network's main graph. What it needs is in `stored` and `frame` then."""

    def __init__(self, network: Network, mode: Mode, trained: frozenset[ir.Value]) -> None:
        self._network, self._mode, self._trained = network, mode, trained
        self._functions = network.structure.functions
        #: What the frame holds before the first step: host integers; tensors are filled in from `stored`.
        self.frame: list[Any] = [None]
        #: Tensors by place, as stored or computed once.
        self.stored: dict[int, Tensor] = {}
        #: Stored tensors of the file by handle: their places.
        self.handles: dict[ir.Value, int] = {}
        #: Every value that has a place, for those who watch.
        self.places: dict[ir.Value, int] = {}
        self._fixed: set[int] = {0}
        self._uncovered: set[str] = set()

    def main(self) -> Plan:
        """The plan of the main graph. InvalidRecipeError names the operators that are not covered."""
        structure = self._network.structure
        opsets = {_domain(name): version for name, version in structure.opset_imports.items()}
        if opsets.get("", FIRST_OPSET) < FIRST_OPSET:
            raise InvalidRecipeError(
                f"torch cannot follow ONNX opset {opsets['']}; {FIRST_OPSET} is the oldest"
            )
        plan = self._body(structure.graph, Scope(opsets))
        if self._uncovered:
            raise InvalidRecipeError(
                f"torch cannot follow these operators of the model: {', '.join(sorted(self._uncovered))}",
                hint="choose a criterion, schedule and recovery that need no gradients and no training",
            )
        return plan

    def _body(self, graph: ir.Graph, scope: Scope) -> Plan:
        inputs = [value for value in graph.inputs if not _is_constant(value)]
        places = tuple(self._new(value, scope).number for value in inputs)
        steps = self._steps(graph, scope)
        outputs = tuple(self._place(value, scope).number for value in graph.outputs)
        return Plan(places, outputs, tuple(steps))

    def _steps(self, nodes: Iterable[ir.Node], scope: Scope) -> list[Step]:
        steps: list[Step] = []
        for node in nodes:
            function = self._functions.get(node.op_identifier())
            if function is not None:
                steps += self._inlined(function, node, scope)
            elif not is_stored(node):
                steps += self._step(node, scope)
        return steps

    def _inlined(self, function: ir.Function, node: ir.Node, scope: Scope) -> list[Step]:
        """The steps of a function of the file, in place of a call of it."""
        opsets = {_domain(name): version for name, version in function.opset_imports.items()}
        defaults = {name: one for name, one in function.attributes.items() if one.value is not None}
        inner = Scope(opsets, defaults | _resolved(node, scope))
        for index, value in enumerate(function.inputs):
            operand = node.inputs[index] if index < len(node.inputs) else None
            inner.places[value] = Place(0) if operand is None else self._place(operand, scope)
            self.places[value] = inner.places[value].number
        steps = self._steps(function, inner)
        for made, value in zip(node.outputs, function.outputs, strict=False):
            scope.places[made] = self._place(value, inner)
            self.places[made] = scope.places[made].number
        return steps

    def _step(self, node: ir.Node, scope: Scope) -> list[Step]:
        """The step of a node; none where its result is fixed and was computed here, or nothing covers it."""
        domain = _domain(node.domain)
        opset = node.version or scope.opsets.get(domain, 1)
        found = find(domain, node.op_type, opset)
        if found is None:
            self._uncovered.add(f"{domain}.{node.op_type}" if domain else node.op_type)
            for value in node.outputs:
                self._new(value, scope)
            return []
        operands = tuple(self._operand(value, scope, found) for value in node.inputs)
        attributes = _resolved(node, scope)
        bodies = {
            name: self._body(attribute.as_graph(), Scope(scope.opsets, scope.attributes, scope))
            for name, attribute in attributes.items()
            if attribute.type == ir.AttributeType.GRAPH
        }
        call = self._call(node, opset, attributes)
        results = tuple(self._new(value, scope).number for value in node.outputs)
        step = Step(found.function, call, found.sizes, operands, results, bodies=bodies)
        return [] if self._folded(step, node, scope) else [step]

    def _call(self, node: ir.Node, opset: int, attributes: Mapping[str, ir.Attr]) -> Call:
        wanted = tuple(bool(value.name) for value in node.outputs)
        return Call(
            operator=node.op_type,
            domain=_domain(node.domain),
            name=node.name or "",
            opset=opset,
            outputs=max((index + 1 for index, some in enumerate(wanted) if some), default=0),
            wanted=wanted,
            mode=self._mode,
            attributes={name: self._attribute(attribute) for name, attribute in attributes.items()},
            types=tuple(_type(value) for value in node.inputs),
        )

    def _attribute(self, attribute: ir.Attr) -> Any:
        if attribute.type == ir.AttributeType.TENSOR:
            return self._on_device(to_torch(attribute.as_tensor().numpy()))
        if attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
            return None
        value = attribute.value
        return tuple(value) if isinstance(value, (list, tuple)) else value

    def _on_device(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._mode.device, self._mode.computed(tensor.dtype))

    def _new(self, value: ir.Value, scope: Scope) -> Place:
        place = Place(self._empty())
        scope.places[value] = place
        self.places[value] = place.number
        return place

    def _empty(self, content: Any = None) -> int:
        self.frame.append(content)
        return len(self.frame) - 1

    def _operand(self, value: ir.Value | None, scope: Scope, taker: Implementation) -> int:
        if value is None or not (value.name or value.producer() is not None or value.is_initializer()):
            return 0
        place = self._place(value, scope)
        if not taker.sizes or place.sizes is None:
            return place.number
        sizes = self.frame[place.sizes]
        taken = taker.floats or (taker.scalars and sizes.rank == 0) or not sizes.floating
        return place.sizes if taken else place.number

    def _place(self, value: ir.Value, scope: Scope) -> Place:
        place = scope.find(value)
        if place is not None:
            return place
        if not _is_constant(value):
            raise InvalidModelError(f"nothing gives {value.name!r}")
        node = value.producer()
        if node is not None and any(attribute.is_ref() for attribute in node.attributes.values()):
            return self._referred(value, node, scope)
        return self._constant(value, scope)

    def _constant(self, value: ir.Value, scope: Scope) -> Place:
        """A stored tensor; one place wherever it is read."""
        number = self.handles.get(value)
        if number is None:
            number = self.handles[value] = self._empty()
            self.stored[number] = self._on_device(to_torch(self._network.read(value)))
            if value not in self._trained:
                self._fixed.add(number)
        place = self._with_sizes(number)
        scope.places[value] = place
        self.places[value] = number
        return place

    def _referred(self, value: ir.Value, node: ir.Node, scope: Scope) -> Place:
        """A Constant that is an attribute of the function's call."""
        resolved = list(_resolved(node, scope).values())
        if len(resolved) != 1:
            raise InvalidModelError(f"{node.name!r} is a constant without a value")
        content = self._attribute(resolved[0])
        if not isinstance(content, Tensor):
            content = torch.tensor(content)
            content = self._on_device(content.float() if content.is_floating_point() else content)
        number = self._empty()
        self.stored[number] = content
        self._fixed.add(number)
        place = scope.places[value] = self._with_sizes(number)
        self.places[value] = number
        return place

    def _with_sizes(self, number: int) -> Place:
        sizes = sizes_of(self.stored[number]) if number in self._fixed else None
        if sizes is None:
            return Place(number)
        place = Place(number, self._empty(sizes))
        self._fixed.add(len(self.frame) - 1)
        return place

    def _folded(self, step: Step, node: ir.Node, scope: Scope) -> bool:
        """Compute once what depends on stored tensors alone that nobody trains."""
        if node.op_type in _UNFOLDED or not self._fixed.issuperset(step.operands):
            return False
        frame = list(self.frame)
        for number in step.operands:
            frame[number] = self.stored.get(number, frame[number])
        with torch.no_grad():
            step.run(frame, None)
        for value, number in zip(node.outputs, step.results, strict=True):
            made = frame[number]
            if isinstance(made, Sizes):
                made = made.tensor(self._mode.device)
            if not isinstance(made, Tensor):
                continue
            self.stored[number] = made
            self._fixed.add(number)
            scope.places[value] = self._with_sizes(number)
        return True


def _type(value: ir.Value | None) -> int:
    return 0 if value is None or value.dtype is None else value.dtype.value


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _is_constant(value: ir.Value) -> bool:
    node = value.producer()
    return value.is_initializer() if node is None else is_stored(node)


def _resolved(node: ir.Node, scope: Scope) -> dict[str, ir.Attr]:
    """The node's attributes; one that refers to a parameter of the function is what the caller gave."""
    found = {
        name: scope.attributes.get(one.ref_attr_name or "") if one.is_ref() else one
        for name, one in node.attributes.items()
    }
    return {name: attribute for name, attribute in found.items() if attribute is not None}
