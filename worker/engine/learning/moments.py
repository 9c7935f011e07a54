"""Sums over rows, in float64: what means, variances, Gram matrices and least squares are made of."""

from dataclasses import dataclass
from typing import final

import torch

#: Columns up to which products are made in float64.
_WIDE = 1024


@final
class Moments:
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
        """Count these rows in."""
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
        """The bias (groups, outputs) that is best beside a matrix (groups, outputs, columns)."""
        made = (matrix @ self.inputs[:, :, None]).squeeze(2)
        return (self.results - made) / max(1, self.count)

    def error(self, matrix: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """Squared error of every output, summed over rows, (groups, outputs): of rows @ matrix.T + shift."""
        explained = ((matrix @ self.gram) * matrix).sum(dim=2)
        error = self.energy - 2 * (matrix * self.cross.mT).sum(dim=2) + explained
        if shift is not None:
            made = (matrix @ self.inputs[:, :, None]).squeeze(2)
            error = error + shift * (2 * made - 2 * self.results + self.count * shift)
        return error.clamp_min(0.0)


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
