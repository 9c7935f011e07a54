"""Numbers in the code that count channels, and what they become: one rule for each family of operators.

A rule is given both sides of a call and gives the arguments that the smaller side needs instead, by position.
Some calls need another operator that does the same with other arguments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import torch

from worker.engine.formats.torch_gone import lost, shape_left


@dataclass(frozen=True)
class Site:
    """One call: arguments of both sides, and the tensors that the full side made of its own."""

    full: Sequence[Any]
    small: Sequence[Any]
    made: Sequence[torch.Tensor]


@dataclass(frozen=True)
class Change:
    """Constant arguments by position, the operator that takes them where it is another one, and which parts
    of a list are other ones than before."""

    arguments: dict[int, Any]
    operator: str | None = None
    parts: dict[int, list[int]] = field(default_factory=dict)


Rule = Callable[[Site], Change | None]
RULES: dict[str, Rule] = {}


def counts(*kinds: str) -> Callable[[Rule], Rule]:
    """Decorator: the rule is that of these operators."""

    def known(rule: Rule) -> Rule:
        RULES.update({f"aten::{kind}": rule for kind in kinds})
        return rule

    return known


def _changed(small: Sequence[Any], wanted: dict[int, Any]) -> Change | None:
    different = {place: value for place, value in wanted.items() if small[place] != value}
    lists = {place: value for place, value in different.items() if isinstance(value, list)}
    parts = {
        place: [part for part, pair in enumerate(zip(small[place], value, strict=True)) if pair[0] != pair[1]]
        for place, value in lists.items()
        if len(small[place]) == len(value)
    }
    return Change(different, parts=parts) if different else None


@counts("view", "reshape", "_unsafe_view", "view_copy", "expand", "broadcast_to", "expand_copy")
def _target(site: Site) -> Change | None:
    """Sizes of axes that lose channels; the rest, −1 among it, stays."""
    (made,) = site.made
    sizes, left, shift = list(site.small[1]), shape_left(made), made.dim() - len(site.full[1])
    for axis in lost(made):
        if axis >= shift and site.full[1][axis - shift] != -1:
            sizes[axis - shift] = left[axis]
    return _changed([None, list(site.small[1])], {1: sizes})


@counts("unflatten")
def _unflattened(site: Site) -> Change | None:
    (made,) = site.made
    start, left = site.full[1] % site.full[0].dim(), shape_left(made)
    sizes = list(site.small[2])
    for axis in lost(made):
        if start <= axis < start + len(sizes) and sizes[axis - start] != -1:
            sizes[axis - start] = left[axis]
    return _changed([None, None, list(site.small[2])], {2: sizes})


def _before(gone: torch.Tensor, index: int) -> int:
    """How many indices are left before one."""
    return int((~gone[:index]).sum())


@counts("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes")
def _split(site: Site) -> Change | None:
    """Every part keeps what is left of it; parts of one size may not be of one size any more."""
    axis = site.full[2] % site.full[0].dim()
    gone = lost(site.full[0]).get(axis)
    if gone is None:
        return None
    ends = [0, *accumulate(part.shape[axis] for part in site.made)]
    sizes = [_before(gone, end) - _before(gone, start) for start, end in pairwise(ends)]
    if isinstance(site.small[1], list):
        return _changed(site.small, {1: sizes})
    return Change({1: sizes, 2: axis}, "aten::split_with_sizes")


@counts("slice")
def _sliced(site: Site) -> Change | None:
    """Bounds count what is left before them."""
    axis = site.full[1] % site.full[0].dim()
    gone = lost(site.full[0]).get(axis)
    if gone is None:
        return None
    size = len(gone) - int(gone.sum())
    start, end, _ = slice(site.full[2], site.full[3]).indices(len(gone))
    found = slice(site.small[2], site.small[3]).indices(size)
    wanted = {2: _before(gone, start), 3: _before(gone, end)}
    return _changed([None, None, *found[:2]], wanted)


@counts("narrow")
def _narrowed(site: Site) -> Change | None:
    axis = site.full[1] % site.full[0].dim()
    gone = lost(site.full[0]).get(axis)
    if gone is None:
        return None
    first = site.full[2] % len(gone)
    start, end = _before(gone, first), _before(gone, first + site.full[3])
    return _changed(site.small, {2: start, 3: end - start})


@counts("select")
def _selected(site: Site) -> Change | None:
    axis = site.full[1] % site.full[0].dim()
    gone = lost(site.full[0]).get(axis)
    return None if gone is None else _changed(site.small, {2: _before(gone, site.full[2] % len(gone))})


@counts("index_select")
def _index_selected(site: Site) -> Change | None:
    axis = site.full[1] % site.full[0].dim()
    gone = lost(site.full[0]).get(axis)
    return None if gone is None else Change({2: _moved(gone, site.full[2])})


@counts("index")
def _indexed(site: Site) -> Change | None:
    """Channels by a list of indices; with more than one list nothing can be said."""
    places = [place for place, index in enumerate(site.full[1]) if index is not None]
    if len(places) != 1 or site.full[1][places[0]].dtype == torch.bool:
        return None
    gone = lost(site.full[0]).get(places[0])
    if gone is None or site.full[1][places[0]].dim() != 1:
        return None
    indices = _moved(gone, site.full[1][places[0]])
    return Change({1: places[0], 2: indices}, "aten::index_select")


def _moved(gone: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Indices of what is left, where it is now."""
    places = torch.cumsum(~gone, 0) - 1
    wanted = indices % len(gone)
    return places[wanted[~gone[wanted]]].to(indices.dtype)


@counts("layer_norm", "native_layer_norm", "rms_norm")
def _normed(site: Site) -> Change | None:
    """Sizes of the axes that are normed."""
    sizes = shape_left(site.made[0])[-len(site.full[1]) :]
    return _changed([None, list(site.small[1])], {1: sizes})


@counts("group_norm")
def _group_normed(site: Site) -> Change | None:
    """As many groups as are left; each goes as a whole."""
    made, groups = site.made[0], site.full[1]
    return _changed(site.small, {1: max(1, shape_left(made)[1] * groups // made.shape[1])})


@counts("scaled_dot_product_attention")
def _scaled(site: Site) -> Change | None:
    """The scale is 1/√(width of a head) when none is given: it stays what it was."""
    query, scale = site.full[0], 6
    if len(site.full) <= scale or site.full[scale] is not None or query.dim() - 1 not in lost(query):
        return None
    return Change({scale: float(query.shape[-1] ** -0.5)})


@counts("pad", "constant_pad_nd")
def _padded(site: Site) -> Change | None:
    """Padding along channels keeps what is left of it."""
    pads, wide = list(site.small[1]), site.full[0].dim()
    for axis, gone in lost(site.made[0]).items():
        place = 2 * (wide - 1 - axis)
        if place + 1 < len(pads) and min(pads[place : place + 2]) >= 0:
            first, last = len(gone) - site.full[1][place + 1], len(gone)
            pads[place] = _before(gone, site.full[1][place])
            pads[place + 1] = _before(gone, last) - _before(gone, first)
    return _changed([None, list(site.small[1])], {1: pads})


def _groups(place: int, transposed: int | bool) -> Rule:
    """As many groups as the smaller weight is made for."""

    def rule(site: Site) -> Change | None:
        turned = transposed if isinstance(transposed, bool) else site.full[transposed]
        channels = shape_left(site.made[0])[1] if turned else site.small[0].shape[1]
        per_group = site.small[1].shape[1]
        return _changed(site.small, {place: max(1, channels // per_group)})

    return rule


RULES.update({f"aten::conv{n}d": _groups(6, False) for n in (1, 2, 3)})
RULES.update({f"aten::conv_transpose{n}d": _groups(6, True) for n in (1, 2, 3)})
RULES.update(dict.fromkeys(("aten::_convolution", "aten::convolution"), _groups(8, 6)))
