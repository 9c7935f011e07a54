"""Follows the code of a TorchScript module while channels leave it: which numbers must change, to what."""

from collections.abc import Callable, Mapping, Sequence
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
from worker.engine.formats.torch_statistics import ELEMENTWISE, PRODUCTS, STATISTICS, Around, fitted

Kept = Mapping[int, Array]
_PADS = {"aten::pad", "aten::constant_pad_nd"}


class RunAgain(Exception):  # noqa: N818 - no error: more is known now than when the run began
    """What padding loses was learnt; a run from the start takes it into account."""


@final
@dataclass
class Follower(Observer):
    """Knows the cuts of stored tensors and finds what must change in the code: `changes` of operators and
    `constants` instead of results, both by `key_of` the node. `arounds` is what operators of the full model
    see of their operands, where they sum up channels without weights; `narrowed` is what operators of the
    smaller one see of operands that lose nothing of their own. `padding` outlives a run (`RunAgain`)."""

    names: TensorNames
    cuts: Mapping[str, Kept]
    padding: dict[int, Lost]
    changes: dict[int, Change] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    arounds: dict[int, Around] = field(default_factory=dict)
    narrowed: dict[int, Around] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    at: str = ""
    _weights: set[int] = field(default_factory=set)
    _padded: dict[int, tuple[int, torch.Tensor]] = field(default_factory=dict)

    def stored(self, path: str, tensor: torch.Tensor) -> Pair:
        return self._known(_cut_pair(tensor, self.cuts.get(self.names.canonical(path) or "", {})))

    def _known(self, pair: Pair) -> Pair:
        """A tensor of the file, which the run keeps: views of it are weights as well."""
        if pair.full.layout == torch.strided:
            self._weights.add(pair.full.untyped_storage().data_ptr())
        return pair

    def constant(self, node: Any, tensor: torch.Tensor) -> Pair:
        name = self.names.constant(to_array(tensor)) if tensor.layout == torch.strided else None
        pair = self._known(_cut_pair(tensor, self.cuts.get(name or "", {})))
        if not tensor.dim():
            self.numbers.add(key_of(node))
        if name in self.cuts:
            self.constants[key_of(node)] = pair.small
        return pair

    def decision(self, node: Any, pair: Pair, read: Callable[[Any], Sequence[Pair]]) -> bool:
        """A check of a count of channels comes out as it did in the full model. What stands in a branch that
        other inputs would take is not known, so it must not count channels that go."""
        self.at, condition = node.kind(), node.inputsAt(0)
        if pair.full != pair.small:
            self.constants[key_of(condition.node())] = bool(pair.full)
        elif depends_on_data(condition):
            chosen, other = node.blocks()
            apart = other if pair.full else chosen
            tensors = tensors_in([one.full for one in read(apart)])
            if any(map(lost, tensors)) and any(map(_may_count, walk(apart))):
                raise Unfollowed("code that other inputs would run")
        return bool(pair.full)

    def operator(self, node: Any, arguments: Sequence[Pair]) -> Sequence[Pair]:
        self.at = kind = node.kind()
        full, small = [pair.full for pair in arguments], [pair.small for pair in arguments]
        made = self._full(node, full)
        if kind in _PADS:
            made = [self._lose_padding(node, made[0])]
        self._learn_padding(full, made[0] if made else None)
        small = self._fitted(node, full, small, made)
        change = self._change(kind, Site(full, small, tensors_in(made)))
        found = self._smaller(node, small, change)
        pairs = [self._pair(node, *sides, full) for sides in zip(made, found, strict=True)]
        return [self._number(node, *pairs)] if len(pairs) == 1 else pairs

    def _full(self, node: Any, arguments: list[Any]) -> list[Any]:
        """What the full side makes: channels that are gone count for nothing in it."""
        around = self._around(node.kind(), arguments)
        if around is None:
            heal = SUMMING.get(node.kind())
            return call(node, heal(list(arguments)) if heal is not None else arguments)
        _note(self.arounds, node, around)
        first, *others = call(node, around.arguments(arguments))
        return [around.widened(first), *others]

    def _fitted(self, node: Any, full: list[Any], small: list[Any], made: Sequence[Any]) -> list[Any]:
        """Operands of the smaller side, without what the result loses by another operand: tables of positions
        beside features, numbers made on the spot."""
        kind = node.kind()
        if kind not in ELEMENTWISE or not isinstance(made[0], torch.Tensor):
            return small
        around = fitted(full, small, made[0])
        if around is None:
            return small
        if kind.endswith("_") and 0 in around.narrow:
            raise Unfollowed(kind)
        _note(self.narrowed, node, around)
        return around.arguments(small)

    def _around(self, kind: str, arguments: Sequence[Any]) -> Around | None:
        """How an operator sums up channels without weights; None where it does not, or none is gone."""
        if not arguments or not isinstance(arguments[0], torch.Tensor):
            return None
        if kind in PRODUCTS:
            sides = [value for value in arguments if isinstance(value, torch.Tensor)]
            return None if any(map(self._is_weight, sides)) else PRODUCTS[kind](arguments)
        return STATISTICS[kind](arguments) if kind in STATISTICS else None

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        strided = tensor.layout == torch.strided
        return strided and tensor.untyped_storage().data_ptr() in self._weights

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


def _note(known: dict[int, Around], node: Any, around: Around) -> None:
    """Code that runs several times can only be changed once."""
    if not known.setdefault(key_of(node), around).same_as(around):
        raise Unfollowed(f"{node.kind()} in a loop")


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
