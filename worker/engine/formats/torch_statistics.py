"""Operators of TorchScript code that sum up channels without weights: over which, once some are gone.

Means and variances are taken over the channels that stay. In the full model that is a choice of indices
before the operator and, for norms, another one behind it, which lays the result out over all channels again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from worker.engine.formats.torch_gone import lost, without

#: By axis, which indices stay.
Axes = dict[int, torch.Tensor]


@dataclass(frozen=True)
class Around:
    """What an operator of the full model sees: of operands (by position) only some indices, other constants;
    and which axes of its first result are wide again."""

    narrow: Mapping[int, Axes]
    constants: Mapping[int, Any] = field(default_factory=dict)
    widen: Axes = field(default_factory=dict)

    def arguments(self, given: Sequence[Any]) -> list[Any]:
        """What the operator is called with."""
        made = [self.constants.get(place, value) for place, value in enumerate(given)]
        for place, axes in self.narrow.items():
            for axis, stays in axes.items():
                made[place] = made[place].index_select(axis, _indices(stays))
        return made

    def widened(self, made: torch.Tensor) -> torch.Tensor:
        """The result over all indices, NaN at those that the operator did not see."""
        for axis, stays in self.widen.items():
            made = made.index_select(axis, back(stays))
        return without(made, {axis: ~stays for axis, stays in self.widen.items()})

    def same_as(self, other: "Around") -> bool:
        """Whether both see the same."""
        return (
            self.constants == other.constants
            and _equal(self.widen, other.widen)
            and (
                self.narrow.keys() == other.narrow.keys()
                and all(_equal(self.narrow[place], other.narrow[place]) for place in self.narrow)
            )
        )

    def steps(self) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Operand, axis and indices of every choice before the operator."""
        for place, axes in self.narrow.items():
            for axis, stays in axes.items():
                yield place, axis, _indices(stays)


Rule = Callable[[Sequence[Any]], Around | None]


def back(stays: torch.Tensor) -> torch.Tensor:
    """For every index its place among those that stay; the first, where it is not."""
    return (torch.cumsum(stays, 0) - 1).clamp(min=0)


def _indices(stays: torch.Tensor) -> torch.Tensor:
    return stays.nonzero().flatten()


def _equal(first: Axes, second: Axes) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[axis], second[axis]) for axis in first)


def _stays(tensor: torch.Tensor, axes: set[int]) -> Axes:
    return {axis: ~gone for axis, gone in lost(tensor).items() if axis in axes}


def _norm(*parameters: int) -> Rule:
    """Over the last axes, as many as the second argument has sizes; parameters are of these axes."""

    def rule(arguments: Sequence[Any]) -> Around | None:
        data, sizes = arguments[0], list(arguments[1])
        first = data.dim() - len(sizes)
        stays = _stays(data, set(range(first, data.dim())))
        if not stays:
            return None
        own = {axis - first: kept for axis, kept in stays.items()}
        for axis, kept in own.items():
            sizes[axis] = int(kept.sum())
        narrow = {0: stays, **{place: own for place in parameters if arguments[place] is not None}}
        return Around(narrow, {1: sizes}, stays)

    return rule


def _reduction(place: int, *, one: bool = False) -> Rule:
    """Over the axes that an argument lists (or, `one`, the axis that it is); else over all of them."""

    def rule(arguments: Sequence[Any]) -> Around | None:
        data, named = arguments[0], arguments[place] if place < len(arguments) else None
        if isinstance(named, torch.Tensor) or not data.dim():
            return None
        if one and isinstance(named, int):
            named = [named]
        axes = named if isinstance(named, list) and named else range(data.dim())
        stays = _stays(data, {axis % data.dim() for axis in axes})
        return Around({0: stays}) if stays else None

    return rule


def _product(first: int, second: int) -> Rule:
    """Features of two activations that are multiplied with each other: those that both have."""

    def rule(arguments: Sequence[Any]) -> Around | None:
        left, right = arguments[first], arguments[second]
        axes = left.dim() - 1, max(0, right.dim() - 2)
        return _both(left, right, (first, second), axes)

    return rule


def _attention(arguments: Sequence[Any]) -> Around | None:
    """Queries and keys; the scale is still that of the full width."""
    query, key, *_ = arguments
    found = _both(query, key, (0, 1), (query.dim() - 1, key.dim() - 1))
    if found is None:
        return None
    scale = arguments[6] if len(arguments) > 6 and arguments[6] is not None else query.shape[-1] ** -0.5
    return Around(found.narrow, {6: float(scale)})


def fitted(full: Sequence[Any], small: Sequence[Any], made: torch.Tensor) -> Around | None:
    """What operands of an elementwise operator must not show any more, as its result loses it and they do
    not, by axes from the end."""
    gone = {axis - made.dim(): indices for axis, indices in lost(made).items()}
    narrow: dict[int, Axes] = {}
    for place, (whole, left) in enumerate(zip(full, small, strict=True)):
        if isinstance(left, torch.Tensor) and whole.shape == left.shape:
            axes = {a: ~g for a, g in gone.items() if left.dim() >= -a and left.shape[a] == len(g) > 1}
            narrow |= {place: axes} if axes else {}
    return Around(narrow) if narrow else None


def _both(
    left: torch.Tensor, right: torch.Tensor, places: tuple[int, int], axes: tuple[int, int]
) -> Around | None:
    sides = zip((left, right), axes, strict=True)
    gone = [found for tensor, axis in sides if (found := lost(tensor).get(axis)) is not None]
    if not gone:
        return None
    stays = ~torch.stack(gone).any(0)
    return Around({place: {axis: stays} for place, axis in zip(places, axes, strict=True)})


_ELEMENTWISE = "add sub rsub mul div pow maximum minimum where fmod remainder atan2 add_ sub_ mul_ div_"
#: Operators whose result has an index where all operands have it.
ELEMENTWISE = {f"aten::{kind}" for kind in _ELEMENTWISE.split()}
_REDUCTIONS = "mean sum amax amin logsumexp var std var_mean std_mean"
#: Norms and reductions.
STATISTICS: dict[str, Rule] = {
    "aten::layer_norm": _norm(2, 3),
    "aten::native_layer_norm": _norm(2, 3),
    "aten::rms_norm": _norm(2),
    **dict.fromkeys((f"aten::{kind}" for kind in _REDUCTIONS.split()), _reduction(1)),
    **dict.fromkeys(("aten::max", "aten::min"), _reduction(1, one=True)),
    "aten::norm": _reduction(2),
    "aten::linalg_vector_norm": _reduction(2),
}
#: Products of two activations. Where one side is a weight, zeros in it do the same.
PRODUCTS: dict[str, Rule] = {
    **dict.fromkeys(("aten::matmul", "aten::bmm", "aten::mm"), _product(0, 1)),
    "aten::baddbmm": _product(1, 2),
    "aten::scaled_dot_product_attention": _attention,
}
