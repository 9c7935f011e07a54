"""Channel maps: which units of which layer every index of a tensor's feature axes comes from.

A tensor carries one map over one or more axes jointly. A map is a list of terms, one for each source
whose units reach the tensor; where branches join (Add) the lists are joined, where they are laid side
by side (Concat) each term has −1 outside its own part. Slopes are what batch norm and constant factors
multiply along the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Source:
    """Where channels come from: the output units of an operator with weights, or something given.

    `given` sources (graph inputs, results of operators without a rule) count as energy 1 per unit:
    a missing neighbour is factor 1 (LAP §1.1). `empty` ones are zeros (padding) and have none. `stored` ones
    are tensors that no operator multiplies with (an embedding table, a class token): energy 1, and they lose
    what goes.
    """

    name: str
    units: int
    given: bool = False
    empty: bool = False
    stored: bool = False


@dataclass(frozen=True, eq=False)
class Term:
    """`units[i]` is the unit of `source` that index i carries, −1 for none; `slope[i]` its factor."""

    source: Source
    units: Ints
    slope: Floats | None = None

    def scaled(self, factor: Floats | float) -> "Term":
        """The same term after multiplication by a constant of the map's shape (or a scalar)."""
        slope = np.ones(self.units.shape) if self.slope is None else self.slope
        return replace(self, slope=np.broadcast_to(slope * factor, self.units.shape))

    def moved(self, index: "MapIndex") -> "Term":
        """The term after the same re-indexing of units and slopes."""
        slope = None if self.slope is None else index(self.slope)
        return replace(self, units=index(self.units), slope=slope)


@dataclass(frozen=True)
class ChannelMap:
    """Terms over `axes` (positions in the tensor, ascending), whose sizes are `sizes`."""

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Boundary:
    """Nothing is known of the tensor's channels, and why."""

    reason: str


Channels = ChannelMap | Boundary


def is_stored(channels: Channels) -> bool:
    """True for a map of stored tensors alone. Which of their axes carries features is a guess."""
    return isinstance(channels, ChannelMap) and all(term.source.stored for term in channels.terms)


class MapIndex:
    """A re-indexing of arrays over a map's axes, applied alike to units and slopes."""

    def __call__(self, array: Any) -> Any:
        """The re-indexed array."""
        return array


class Reshaped(MapIndex):
    """Give the array another shape of as many elements."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)

    def __call__(self, array: Any) -> Any:
        return np.reshape(array, self.sizes)


class Broadcast(MapIndex):
    """Repeat the array along axes of size 1."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)

    def __call__(self, array: Any) -> Any:
        return np.broadcast_to(array, self.sizes)


class Permuted(MapIndex):
    """Transpose."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = tuple(order)

    def __call__(self, array: Any) -> Any:
        return np.transpose(array, self.order)


class Taken(MapIndex):
    """Take indices along one axis of the map."""

    def __init__(self, indices: Ints, axis: int) -> None:
        self.indices, self.axis = indices, axis

    def __call__(self, array: Any) -> Any:
        return np.take(array, self.indices, axis=self.axis)


class Placed(MapIndex):
    """Lay the array at `start` of an axis of `size`; −1 (units) or 1 (slopes) elsewhere."""

    def __init__(self, start: int, size: int, axis: int) -> None:
        self.start, self.size, self.axis = start, size, axis

    def __call__(self, array: Any) -> Any:
        shape = list(array.shape)
        length = shape[self.axis]
        shape[self.axis] = self.size
        placed = np.full(shape, -1 if array.dtype.kind == "i" else 1.0, dtype=array.dtype)
        where = [slice(None)] * len(shape)
        where[self.axis] = slice(self.start, self.start + length)
        placed[tuple(where)] = array
        return placed


def fresh(source: Source, axis: int) -> ChannelMap:
    """The map of an operator's output whose axis `axis` is the source's units in order."""
    return ChannelMap((axis,), (source.units,), (Term(source, np.arange(source.units)),))


def given(name: str, axes: Sequence[int], sizes: Sequence[int]) -> ChannelMap:
    """A map of channels that nothing prunable makes."""
    count = int(np.prod(sizes))
    source = Source(name, count, given=True)
    return ChannelMap(tuple(axes), tuple(sizes), (Term(source, np.arange(count).reshape(sizes)),))


def mapped(channels: ChannelMap, index: MapIndex, axes: Sequence[int], sizes: Sequence[int]) -> ChannelMap:
    """The map after a re-indexing, over `axes` of the new tensor."""
    return ChannelMap(tuple(axes), tuple(sizes), tuple(term.moved(index) for term in channels.terms))


def taken(channels: ChannelMap, axis: int, indices: Ints) -> ChannelMap:
    """Indices along a tensor axis; an axis without channels leaves the map as it is."""
    if axis not in channels.axes:
        return channels
    place = channels.axes.index(axis)
    sizes = [len(indices) if i == place else size for i, size in enumerate(channels.sizes)]
    return mapped(channels, Taken(indices, place), channels.axes, sizes)


def scaled(channels: ChannelMap, factor: Floats | float) -> ChannelMap:
    """The map after multiplication by a constant over its axes."""
    return replace(channels, terms=tuple(term.scaled(factor) for term in channels.terms))


def joined(first: ChannelMap, second: ChannelMap) -> ChannelMap:
    """The map of a sum. Both lie over the same axes and sizes."""
    return replace(first, terms=first.terms + second.terms)


def spread(channels: ChannelMap, axes: Sequence[int], sizes: Sequence[int]) -> ChannelMap:
    """A map along some of the axes, repeated along the others."""
    own = [size if axis in channels.axes else 1 for axis, size in zip(axes, sizes, strict=True)]
    terms = [term.moved(Reshaped(own)).moved(Broadcast(sizes)) for term in channels.terms]
    return ChannelMap(tuple(axes), tuple(sizes), tuple(terms))
