"""Sums over rows, in float64: what means, variances, Gram matrices and least squares are made of."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from worker.engine.learning.least_squares import Problem, solve, solve_rows

#: Columns up to which products are made in float64.
_WIDE = 1024


class Evidence(abc.ABC):
    """Rows of inputs and what should come out of them, gathered in some form that least squares can use."""

    count: int = 0

    @abc.abstractmethod
    def add(self, rows: torch.Tensor, results: torch.Tensor | None = None) -> None:
        """Count these rows (groups, rows, columns) and results (groups, rows, outputs) in."""

    @abc.abstractmethod
    def shift(self, matrix: torch.Tensor) -> torch.Tensor:
        """The bias (groups, outputs) that is best beside a matrix (groups, outputs, columns)."""

    @abc.abstractmethod
    def error(self, matrix: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """Squared error of every output, summed over rows, (groups, outputs): of rows @ matrix.T + shift."""

    @abc.abstractmethod
    def solve(
        self, support: torch.Tensor, toward: torch.Tensor, relative: float, *, free: bool
    ) -> torch.Tensor:
        """The matrix that errs least, zero outside `support` and drawn to `toward`, both of its shape, with
        damping relative to the mean square of a column; `free` lets a bias go with it."""


@final
class Moments(Evidence):
    """First and second moments of rows of inputs (groups, rows, columns) and, where given, of the rows that
    should come out of them (groups, rows, outputs). Products are made in the rows' own type, summed in
    float64."""

    def __init__(self, groups: int, columns: int, outputs: int, device: str = "cpu") -> None:
        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(groups, *shape, dtype=torch.float64, device=device)

        self.count = 0
        self.inputs, self.gram = zeros(columns), zeros(columns, columns)
        self.results, self.cross, self.energy = zeros(outputs), zeros(columns, outputs), zeros(outputs)

    def add(self, rows: torch.Tensor, results: torch.Tensor | None = None) -> None:
        self.count += rows.shape[1]
        if rows.shape[2] <= _WIDE:
            rows, results = rows.double(), None if results is None else results.double()
        self.inputs += rows.sum(dim=1, dtype=torch.float64)
        self.gram += rows.mT @ rows
        if results is not None:
            self.results += results.sum(dim=1, dtype=torch.float64)
            self.cross += rows.mT @ results
            self.energy += results.square().sum(dim=1, dtype=torch.float64)

    def centred(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Gram and cross moments about the means: what is left to explain once a bias is free."""
        mean = self.inputs / max(1, self.count)
        gram = self.gram - mean[:, :, None] * self.inputs[:, None, :]
        return gram, self.cross - mean[:, :, None] * self.results[:, None, :]

    def shift(self, matrix: torch.Tensor) -> torch.Tensor:
        made = (matrix @ self.inputs[:, :, None]).squeeze(2)
        return (self.results - made) / max(1, self.count)

    def error(self, matrix: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        explained = ((matrix @ self.gram) * matrix).sum(dim=2)
        error = self.energy - 2 * (matrix * self.cross.mT).sum(dim=2) + explained
        if shift is not None:
            made = (matrix @ self.inputs[:, :, None]).squeeze(2)
            error = error + shift * (2 * made - 2 * self.results + self.count * shift)
        return error.clamp_min(0.0)

    def solve(
        self, support: torch.Tensor, toward: torch.Tensor, relative: float, *, free: bool
    ) -> torch.Tensor:
        gram, cross = self.centred() if free else (self.gram, self.cross)
        return solve(Problem(gram, cross, support, toward), relative)


@final
class Sample(Evidence):
    """The rows themselves, few of them: for weights too wide for a Gram matrix."""

    def __init__(self) -> None:
        self._rows: list[torch.Tensor] = []
        self._results: list[torch.Tensor] = []

    def add(self, rows: torch.Tensor, results: torch.Tensor | None = None) -> None:
        if results is None:
            raise ValueError("a sample is of rows and results")
        self.count += rows.shape[1]
        self._rows.append(rows)
        self._results.append(results)

    def shift(self, matrix: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [(made - rows.double() @ matrix[group].mT).mean(dim=0) for group, rows, made in self._groups()]
        )

    def error(self, matrix: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        found = []
        for group, rows, made in self._groups():
            apart = rows.double() @ matrix[group].mT - made
            found.append((apart if shift is None else apart + shift[group]).square().sum(dim=0))
        return torch.stack(found)

    def solve(
        self, support: torch.Tensor, toward: torch.Tensor, relative: float, *, free: bool
    ) -> torch.Tensor:
        found = torch.where(support, toward, 0.0).double()
        for group, rows, made in self._groups():
            if free:
                rows, made = rows - rows.mean(dim=0), made - made.mean(dim=0)
            found[group] = solve_rows(rows, made, support[group], found[group], relative)
        return found

    def _groups(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        rows, results = torch.cat(self._rows, dim=1), torch.cat(self._results, dim=1).double()
        for group in range(rows.shape[0]):
            yield group, rows[group], results[group]


@final
@dataclass
class Spread:
    """Mean and variance of channels over everything seen, exact however it came in batches.

    Batches are merged by their means (Chan, Golub, LeVeque 1983), so that large means cost no digits.
    """

    count: int = 0
    mean: torch.Tensor | None = None
    deviation: torch.Tensor | None = None

    def add(self, values: torch.Tensor) -> None:
        """Count in values of shape (channels, anything)."""
        found = values.double()
        count, mean = found.shape[1], found.mean(dim=1)
        deviation = (found - mean[:, None]).square().sum(dim=1)
        if self.mean is None or self.deviation is None:
            self.count, self.mean, self.deviation = count, mean, deviation
            return
        total, apart = self.count + count, mean - self.mean
        self.deviation = self.deviation + deviation + apart.square() * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total

    @property
    def variance(self) -> torch.Tensor:
        """Population variance."""
        if self.deviation is None:
            raise ValueError("no values were seen")
        return self.deviation / self.count

    @property
    def means(self) -> torch.Tensor:
        """Means."""
        if self.mean is None:
            raise ValueError("no values were seen")
        return self.mean
