"""Union of units: which of all units of all sources stand for one another, found array by array."""

from typing import final

import numpy as np

from worker.engine.graph.channels import ChannelMap, Ints, Source


def merged(labels: Ints, first: Ints, second: Ints) -> Ints:
    """Labels after pairs of cells are tied: every class goes by its smallest cell, as it does in `labels`."""
    while True:
        one, other = labels[first], labels[second]
        apart = one != other
        if not apart.any():
            return labels
        one, other, first, second = one[apart], other[apart], first[apart], second[apart]
        labels = labels.copy()
        # Of several smaller labels the smallest: with any other a star of n cells would take n rounds.
        np.minimum.at(labels, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(shorter := labels[labels], labels):
            labels = shorter


def count_classes(grid: Ints) -> int:
    """How many classes the columns of a grid of labels make, when columns that share one belong together.

    Negative labels stand for nothing.
    """
    columns = grid.shape[1]
    places = np.broadcast_to(np.arange(columns), grid.shape)[grid >= 0]
    _, numbers = np.unique(grid[grid >= 0], return_inverse=True)
    owners = merged(np.arange(columns + grid.size), places, columns + numbers.reshape(-1))
    return int(np.unique(owners[:columns]).size)


@final
class Cells:
    """Every unit of every source has a number, its cell; ties make classes of cells."""

    def __init__(self) -> None:
        self.offsets: dict[Source, int] = {}
        self.reasons: dict[int, str] = {}
        self._labels: Ints = np.arange(0)
        self._count = 0
        self._ties: list[tuple[Ints, Ints]] = []

    def of(self, source: Source) -> int:
        """Number of the source's first cell."""
        if source not in self.offsets:
            self.offsets[source], self._count = self._count, self._count + source.units
            if source.given:
                self.freeze(
                    np.arange(self.offsets[source], self._count), "joined with channels that are given"
                )
        return self.offsets[source]

    def roots(self) -> Ints:
        """The smallest cell of every cell's class."""
        if self._ties or len(self._labels) < self._count:
            labels = np.concatenate([self._labels, np.arange(len(self._labels), self._count)])
            first, second = (
                np.concatenate([np.arange(0), *(tie[side] for tie in self._ties)]) for side in (0, 1)
            )
            self._labels, self._ties = merged(labels, first, second), []
        return self._labels

    def join(self, first: Ints, second: Ints) -> None:
        """Tie pairs of cells; negative numbers stand for nothing."""
        both = (first >= 0) & (second >= 0)
        if both.any():
            self._ties.append((first[both], second[both]))

    def freeze(self, cells: Ints, reason: str) -> None:
        """Keep cells for ever; the first reason stands."""
        for cell in np.unique(cells[cells >= 0]).tolist():
            self.reasons.setdefault(cell, reason)

    def at(self, channels: ChannelMap) -> list[Ints]:
        """Cells of every term of a map, −1 where a term has none; flat."""
        found = []
        for term in channels.terms:
            start = self.of(term.source)
            found.append(np.where(term.units >= 0, term.units + start, -1).reshape(-1))
        return found
