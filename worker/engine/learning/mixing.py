"""Mixtures of rows: points between the rows of a batch, for a teacher that answers whatever it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

Tensors = tuple[torch.Tensor, ...]


@final
@dataclass(frozen=True)
class Mixing:
    """Draws mixtures: every row with another one of its batch, by a share between 0 and 1 of its own.

    `mixed` tells which inputs of a call have one value per row; the others are passed on. Source: Zhang et
    al., ICLR 2018 (mixup), arXiv 1710.09412; with a teacher: Beyer et al., CVPR 2022, arXiv 2106.05237.
    """

    mixed: tuple[bool, ...]

    def of(self, calls: Sequence[Tensors], seed: Sequence[int]) -> tuple[Tensors, ...]:
        """As many mixtures as there are rows in the calls; the same for the same seed."""
        generator = np.random.default_rng(seed)
        sizes = [len(call[self.mixed.index(True)]) for call in calls]
        order = torch.from_numpy(generator.permutation(sum(sizes)))
        shares = torch.from_numpy(generator.random(sum(sizes), np.float32))
        columns = [
            _mixed(column, order, shares, sizes) if mixed else column
            for mixed, column in zip(self.mixed, zip(*calls, strict=True), strict=True)
        ]
        return tuple(zip(*columns, strict=True))


def mixing_for(calls: Sequence[Tensors], fixed: Sequence[bool]) -> Mixing | None:
    """How rows like those of the calls are mixed, given which inputs are the same for every row.

    None where they cannot be: between two whole numbers, which may name things, there is nothing.
    """
    mixed = tuple(not one for one in fixed)
    columns = [column for column, mixes in zip(zip(*calls, strict=True), mixed, strict=True) if mixes]
    if not columns or not all(_has_rows(one) for column in columns for one in column):
        return None
    return Mixing(mixed) if all(_alike(inputs) for inputs in zip(*columns, strict=True)) else None


def _has_rows(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dim() > 0


def _alike(inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the inputs of one call are of as many rows."""
    return len({len(tensor) for tensor in inputs}) == 1


def _mixed(
    column: Sequence[torch.Tensor], order: torch.Tensor, shares: torch.Tensor, sizes: Sequence[int]
) -> Sequence[torch.Tensor]:
    """One input of all calls, row by row between it and what the order puts there."""
    whole = torch.cat(list(column))
    kept = shares.to(whole).reshape(-1, *(1,) * (whole.dim() - 1))
    return torch.split(kept * whole + (1 - kept) * whole[order.to(whole.device)], list(sizes))
