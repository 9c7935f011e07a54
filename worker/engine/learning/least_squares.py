"""Ridge regression of many outputs at once, each on a support of its own.

Row r of the answer minimises ‖y_r − X w‖² + λ‖w − w₀‖² over w that are zero outside the row's support; only
the Gram matrix XᵀX and the products Xᵀy are needed. Rows of equal support share one factorisation. Of the
others, those that keep most of their columns start from the solution over all columns and take out what the
few others hold there; so no system is larger than half of the columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

#: Bytes of Gram matrices that are factorised at once.
_AT_ONCE = 2**27
#: From how many rows on that keep most of their columns one inverse of the whole Gram matrix pays.
_MANY = 4
#: Least damping, relative to the mean of the diagonal: below it rounding decides.
_LEAST = 1e-9


@dataclass(frozen=True)
class Problem:
    """XᵀX (groups, columns, columns), Xᵀy (groups, columns, outputs), where weights may stand and what they
    are drawn to, both (groups, outputs, columns)."""

    gram: torch.Tensor
    cross: torch.Tensor
    support: torch.Tensor
    toward: torch.Tensor

    def damping(self, relative: float) -> torch.Tensor:
        """λ of each group: so many times the mean of its Gram matrix' diagonal."""
        mean = self.gram.diagonal(dim1=1, dim2=2).mean(dim=1)
        return mean.clamp_min(0.0) * max(relative, _LEAST)


def solve(problem: Problem, relative: float) -> torch.Tensor:
    """The weights (groups, outputs, columns), zero outside the support. Rows that cannot be solved (nothing
    but zeros came in, or the arithmetic broke down) stay at `toward`."""
    found = torch.where(problem.support, problem.toward, 0.0).double()
    damping = problem.damping(relative)
    for group in range(found.shape[0]):
        if damping[group] <= 0:
            continue
        supports, owner = torch.unique(problem.support[group], dim=0, return_inverse=True)
        counts = torch.bincount(owner, minlength=len(supports))
        for number in torch.nonzero(counts > 1).flatten().tolist():
            _shared(problem, damping, found, group, torch.nonzero(owner == number).flatten())
    most, few = _alone(problem, damping)
    for groups, outputs in _batches(few, _widths(problem, few)):
        _separate(problem, damping, found, groups, outputs)
    for group in torch.unique(most[:, 0]).tolist():
        _mostly(problem, damping, found, most[most[:, 0] == group])
    return found


def solve_rows(
    rows: torch.Tensor, results: torch.Tensor, support: torch.Tensor, toward: torch.Tensor, relative: float
) -> torch.Tensor:
    """The same for one group from its rows (rows, columns) and results (rows, outputs), where rows are fewer
    than columns: by systems as large as the number of rows (the dual form). `toward` is zero off the
    support."""
    damping = float(rows.double().square().sum() / rows.shape[1]) * max(relative, _LEAST)
    if damping <= 0:
        return toward
    left = results - rows.double() @ toward.mT
    found = toward.clone()
    supports, owner = torch.unique(support, dim=0, return_inverse=True)
    for number, one in enumerate(supports):
        columns = torch.nonzero(one).flatten()
        outputs = torch.nonzero(owner == number).flatten()
        kept = rows[:, columns]
        kernel = (kept @ kept.mT).double()
        kernel.diagonal().add_(damping)
        factor, broken = torch.linalg.cholesky_ex(kernel)
        if len(columns) and not broken.item():
            change = kept.double().mT @ torch.cholesky_solve(left[:, outputs], factor)
            found[outputs[:, None], columns[None, :]] += change.mT
    return found


def inverse_diagonal(gram: torch.Tensor, relative: float) -> torch.Tensor:
    """Diagonal of (XᵀX + λI)⁻¹, (groups, columns); λ is `relative` times the mean of XᵀX's diagonal.

    Columns that are zero throughout get infinity: their weights cost nothing.
    """
    damped, dead = _damped(gram, relative)
    inverse: torch.Tensor = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return inverse.diagonal(dim1=1, dim2=2).masked_fill(dead, torch.inf)


def inverse_factor(gram: torch.Tensor, relative: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Upper triangular U of every group with UᵀU = (XᵀX + λI)⁻¹, λ as above, and which columns are zero
    throughout, (groups, columns): those stand by themselves. Row j of U from j on, times U_jj, is the first
    row of the inverse over the columns from j on."""
    damped, dead = _damped(gram, relative)
    # A factor R Rᵀ of the matrix itself, R upper: Cholesky's from the last column to the first.
    reverse = torch.linalg.cholesky(damped.flip(1, 2)).flip(1, 2)
    ones = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_triangular(reverse, ones, upper=True), dead


def _damped(gram: torch.Tensor, relative: float) -> tuple[torch.Tensor, torch.Tensor]:
    """XᵀX + λI with 1 more on the diagonal of columns that are zero throughout, and which those are."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    dead = diagonal <= 0
    more = diagonal.mean(dim=1, keepdim=True) * max(relative, _LEAST) + dead.to(gram.dtype)
    return gram + torch.diag_embed(more), dead


def _shared(
    problem: Problem, damping: torch.Tensor, found: torch.Tensor, group: int, rows: torch.Tensor
) -> None:
    """Rows with one support: one factorisation, as many right-hand sides."""
    columns = torch.nonzero(problem.support[group, rows[0]]).flatten()
    if not len(columns):
        return
    gram = problem.gram[group][columns][:, columns].clone()
    gram.diagonal().add_(damping[group])
    factor, broken = torch.linalg.cholesky_ex(gram)
    toward = problem.toward[group][rows][:, columns].double()
    right = problem.cross[group][columns][:, rows] + damping[group] * toward.mT
    if not broken.item():
        found[group, rows[:, None], columns[None, :]] = torch.cholesky_solve(right, factor).mT


def _alone(problem: Problem, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (group, output) whose support is theirs alone: of groups where many keep most of their columns
    those, and all others."""
    found = torch.tensor(
        [
            (group, row)
            for group in range(problem.support.shape[0])
            if damping[group] > 0
            for row in _single(problem.support[group])
        ],
        dtype=torch.int64,
    ).reshape(-1, 2)
    wide = 2 * _widths(problem, found) > problem.support.shape[2]
    many = torch.bincount(found[wide, 0], minlength=problem.support.shape[0]) >= _MANY
    wide &= many[found[:, 0]]
    return found[wide], found[~wide]


def _widths(problem: Problem, pairs: torch.Tensor) -> torch.Tensor:
    """How many columns each row keeps."""
    return problem.support[pairs[:, 0], pairs[:, 1]].sum(dim=1).cpu()


def _batches(pairs: torch.Tensor, widths: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Groups and outputs of rows whose systems are so wide, similar widths together, in pieces that fit; rows
    of none are left out."""
    order = torch.argsort(widths, stable=True)
    order = order[widths[order] > 0]
    for start, stop in _pieces([int(width) for width in widths[order]]):
        piece = pairs[order[start:stop]]
        yield piece[:, 0], piece[:, 1]


def _pieces(widths: list[int]) -> Iterator[tuple[int, int]]:
    """Ranges of ascending widths whose matrices, padded to the last, take no more than `_AT_ONCE` bytes."""
    start = 0
    while start < len(widths):
        stop = start + 1
        while stop < len(widths) and (stop + 1 - start) * 8 * widths[stop] ** 2 <= _AT_ONCE:
            stop += 1
        yield start, stop
        start = stop


def _single(support: torch.Tensor) -> list[int]:
    _, owner, counts = torch.unique(support, dim=0, return_inverse=True, return_counts=True)
    rows: list[int] = torch.nonzero(counts[owner] == 1).flatten().tolist()
    return rows


def _separate(
    problem: Problem, damping: torch.Tensor, found: torch.Tensor, groups: torch.Tensor, outputs: torch.Tensor
) -> None:
    """Rows with supports of their own: as many factorisations, padded to one width with ones."""
    support = problem.support[groups, outputs]
    width = int(support.sum(dim=1).max())
    columns = torch.argsort(support.to(torch.uint8), dim=1, descending=True, stable=True)[:, :width]
    there = support.gather(1, columns)
    both = there[:, :, None] & there[:, None, :]
    device = problem.gram.device
    place = groups.to(device)[:, None, None]
    gram = problem.gram[place, columns[:, :, None], columns[:, None, :]] * both
    own = damping[groups.to(device)]
    gram.diagonal(dim1=1, dim2=2).add_(torch.where(there, own[:, None], 1.0))
    factor, broken = torch.linalg.cholesky_ex(gram)
    toward = problem.toward[groups, outputs].gather(1, columns).double()
    right = problem.cross[groups[:, None], columns, outputs[:, None]] + own[:, None] * toward
    solved = torch.cholesky_solve((right * there)[:, :, None], factor).squeeze(2)
    good = there & (broken == 0)[:, None]
    rows = found[groups, outputs]
    rows.scatter_(1, columns, torch.where(good, solved, rows.gather(1, columns)))
    found[groups, outputs] = rows


def _mostly(problem: Problem, damping: torch.Tensor, found: torch.Tensor, pairs: torch.Tensor) -> None:
    """Rows of one group that keep most of their columns. With H = XᵀX + λI and u = H⁻¹(Xᵀy + λw₀), what is
    zero at the columns P is u − H⁻¹[:, P] (H⁻¹[P, P])⁻¹ u[P]."""
    group = int(pairs[0, 0])
    whole = problem.gram[group].clone()
    whole.diagonal().add_(damping[group])
    factor, broken = torch.linalg.cholesky_ex(whole)
    gone = problem.support.shape[2] - _widths(problem, pairs)
    if broken.item():
        for groups, outputs in _batches(pairs, problem.support.shape[2] - gone):
            _separate(problem, damping, found, groups, outputs)
        return
    inverse = torch.cholesky_inverse(factor)
    for _, outputs in _batches(pairs, gone.clamp_min(1)):
        support = problem.support[group, outputs]
        toward = torch.where(support, problem.toward[group, outputs], 0.0).double()
        over_all = (problem.cross[group][:, outputs].mT + damping[group] * toward) @ inverse
        held, good = _held(over_all, inverse, ~support)
        solved = torch.where(support, over_all - held @ inverse, 0.0)
        found[group, outputs] = torch.where(good[:, None], solved, found[group, outputs])


def _held(
    over_all: torch.Tensor, inverse: torch.Tensor, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(H⁻¹[P, P])⁻¹ u[P] of every row, at its columns P and zero elsewhere; and where it could be solved."""
    width = max(1, int(out.sum(dim=1).max()))
    columns = torch.argsort(out.to(torch.uint8), dim=1, descending=True, stable=True)[:, :width]
    there = out.gather(1, columns)
    both = there[:, :, None] & there[:, None, :]
    system = inverse[columns[:, :, None], columns[:, None, :]] * both
    system.diagonal(dim1=1, dim2=2).add_(torch.where(there, 0.0, 1.0))
    factor, broken = torch.linalg.cholesky_ex(system)
    right = over_all.gather(1, columns) * there
    solved = torch.cholesky_solve(right[:, :, None], factor).squeeze(2)
    return torch.zeros_like(over_all).scatter_(1, columns, solved * there), broken == 0
