"""Follows the code of a TorchScript module while channels leave it: which numbers must change, to what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch

from worker.engine.formats.base import Array
from worker.engine.formats.torch_counts import RULES, Change, Site
from worker.engine.formats.torch_gone import (
    SUMMING,
    Lost,
    all_lost,
    cut,
    lost,
    marked,
    remarked,
    shape_left,
    without,
)
from worker.engine.formats.torch_interpreter import (
    Observer,
    Pair,
    Unfollowed,
    call,
    depends_on_data,
    tensors_in,
    walk,
)
from worker.engine.formats.torch_names import TensorNames
from worker.engine.formats.torch_signature import to_array

Kept = Mapping[int, Array]
_PADS = {"aten::pad", "aten::constant_pad_nd"}


class RunAgain(Exception):  # noqa: N818 - no error: more is known now than when the run began
    """What padding loses was learnt; a run from the start takes it into account."""


@final
@dataclass
class Follower(Observer):
    """Knows the cuts of stored tensors and finds what must change in the code: `changes` of operators and
    `constants` instead of results, both by `key_of` the node. `padding` outlives a run (`RunAgain`)."""

    names: TensorNames
    cuts: Mapping[str, Kept]
    padding: dict[int, Lost]
    changes: dict[int, Change] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    at: str = ""
    _padded: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)

    def stored(self, path: str, tensor: torch.Tensor) -> Pair:
        return _cut_pair(tensor, self.cuts.get(self.names.canonical(path) or "", {}))

    def constant(self, node: Any, tensor: torch.Tensor) -> Pair:
        name = self.names.constant(to_array(tensor)) if tensor.layout == torch.strided else None
        pair = _cut_pair(tensor, self.cuts.get(name or "", {}))
        if not tensor.dim():
            self.numbers.add(key_of(node))
        if name in self.cuts:
            self.constants[key_of(node)] = pair.small
        return pair

    def decision(self, node: Any, pair: Pair) -> bool:
        """A check of a count of channels comes out as it did in the full model. What stands in a branch that
        other inputs would take is not known, so it must not count channels."""
        self.at, condition = node.kind(), node.inputsAt(0)
        if pair.full != pair.small:
            self.constants[key_of(condition.node())] = bool(pair.full)
        elif depends_on_data(condition):
            chosen, other = node.blocks()
            if any(map(_may_count, walk(other if pair.full else chosen))):
                raise Unfollowed("code that other inputs would run")
        return bool(pair.full)

    def operator(self, node: Any, arguments: Sequence[Pair]) -> Sequence[Pair]:
        self.at = kind = node.kind()
        full, small = [pair.full for pair in arguments], [pair.small for pair in arguments]
        heal = SUMMING.get(kind)
        made = call(node, heal(list(full)) if heal is not None else full)
        if kind in _PADS:
            made = [self._lose_padding(node, made[0])]
        self._learn_padding(full, made[0] if made else None)
        change = self._change(kind, Site(full, small, tensors_in(made)))
        found = self._smaller(node, small, change)
        pairs = [self._pair(node, *sides, full) for sides in zip(made, found, strict=True)]
        return [self._number(node, *pairs)] if len(pairs) == 1 else pairs

    def _lose_padding(self, node: Any, made: torch.Tensor) -> torch.Tensor:
        made = without(made, self.padding.get(key_of(node), {}))
        self._padded[id(made)] = (key_of(node), made)
        return made

    def _learn_padding(self, arguments: Sequence[Any], made: Any) -> None:
        """Zeros that are joined with channels that are gone must go as well; that is known only then."""
        for argument in arguments:
            key, padded = self._padded.get(id(argument), (None, None))
            if key is None or padded is None or not isinstance(made, torch.Tensor):
                continue
            gone = lost(made) if made.shape == padded.shape else {}
            own = lost(padded)
            if any(axis not in own or not torch.equal(own[axis], gone[axis]) for axis in gone):
                self.padding[key] = gone
                raise RunAgain

    def _number(self, node: Any, pair: Pair) -> Pair:
        """A number that the code computed from counts of channels alone, 1/√width say, stays what it was."""
        if isinstance(pair.full, torch.Tensor):
            sources = [value for value in node.inputs() if str(value.type()) == "Tensor"]
            if any(value.unique() not in self.numbers for value in sources) or pair.full.dim():
                return pair
            self.numbers.add(key_of(node))
            whole = not pair.full.is_floating_point()
        else:
            whole = not isinstance(pair.full, float)
        if whole or bool(pair.full == pair.small):
            return pair
        self.constants[key_of(node)] = pair.full
        return Pair(pair.full, pair.full)

    def _change(self, kind: str, site: Site) -> Change | None:
        rule = RULES.get(kind)
        takes_tensor = bool(site.full) and isinstance(site.full[0], torch.Tensor)
        return rule(site) if rule is not None and takes_tensor else None

    def _smaller(self, node: Any, small: list[Any], change: Change | None) -> list[Any]:
        if change is None:
            if node.outputsSize() and key_of(node) in self.changes:
                raise Unfollowed(f"{node.kind()} in a loop")
            return call(node, small)
        known = self.changes.setdefault(key_of(node), change)
        if not _same(known, change):
            raise Unfollowed(f"{node.kind()} in a loop")
        return _called(node, small, change)

    def _pair(self, node: Any, full: Any, small: Any, arguments: Sequence[Any]) -> Pair:
        """Both sides of a result, of fitting shapes."""
        if isinstance(full, torch.Tensor) and full.is_floating_point() and not _vanished(full, small):
            if list(small.shape) != shape_left(full):
                full = remarked(full, arguments)
            if list(small.shape) != shape_left(full):
                raise Unfollowed(node.kind())
        return Pair(full, small)


def _may_count(node: Any) -> bool:
    """Whether an operator on tensors takes numbers that may count channels."""
    return node.kind() in RULES and str(node.inputsAt(0).type()) == "Tensor"


def _vanished(full: torch.Tensor, small: torch.Tensor) -> bool:
    """Whether nothing is left: a part all of whose channels went."""
    return not small.numel() and all_lost(full)


def _cut_pair(tensor: torch.Tensor, kept: Kept) -> Pair:
    return Pair(marked(tensor, kept), cut(tensor, kept))


def key_of(node: Any) -> int:
    """What a node is known by in its graph: its first result."""
    key: int = next(iter(node.outputs())).unique()
    return key


def _called(node: Any, small: Sequence[Any], change: Change) -> list[Any]:
    """The call of the smaller side with its own numbers."""
    if change.operator == "aten::split_with_sizes":
        return [list(torch.split(small[0], change.arguments[1], change.arguments[2]))]
    if change.operator == "aten::index_select":
        return [small[0].index_select(change.arguments[1], change.arguments[2])]
    arguments = [change.arguments.get(place, value) for place, value in enumerate(small)]
    return call(node, arguments)


def _same(first: Change, second: Change) -> bool:
    if first.operator != second.operator or first.arguments.keys() != second.arguments.keys():
        return False
    pairs = [(first.arguments[key], second.arguments[key]) for key in first.arguments]
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)
