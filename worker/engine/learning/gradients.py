"""Gradients of a network's outputs and losses, sample by sample, and the curvature that they make up.

Curvature is taken as a sum of squares: the Hessian of the loss in the outputs is S·Sᵀ, and the diagonal of
the Gauss-Newton matrix is the sum over the columns s of S of the squared gradients of s·outputs. For networks
that are linear between kinks it is the diagonal of the Hessian, exactly (BackPACK's DiagHessian: Dangel et
al., ICLR 2020). Where S has many columns, random signs make few of them without bias.
"""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch.nn import functional

from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.memory import raise_if_memory
from worker.engine.learning.activations import Call, Observed
from worker.engine.learning.batching import Tensors
from worker.engine.learning.losses import Loss, are_probabilities, choose_loss
from worker.engine.learning.unfolding import Unfolding

_LEAST = 1e-12
#: Elements of gradients per sample that are held at once.
_AT_ONCE = 2**25


class Directions(abc.ABC):
    """Scalars whose gradients are wanted, from the outputs for one batch; sums over its samples."""

    @abc.abstractmethod
    def of(self, outputs: Tensors, call: Call) -> Iterator[torch.Tensor]:
        """One scalar after another; the sum of their squared gradients per sample is what is sought."""


@final
@dataclass
class LabelLoss(Directions):
    """The loss against the labels: squared gradients are the empirical Fisher's diagonal."""

    loss: Loss | None = None

    def of(self, outputs: Tensors, call: Call) -> Iterator[torch.Tensor]:
        if call.targets is None:
            raise ValueError("the rows have no labels")
        if self.loss is None:
            self.loss = choose_loss([one.detach() for one in outputs], call.targets)
        yield self.loss(outputs, call.targets) * len(call.targets)


class Curvature(Directions, abc.ABC):
    """Columns of the root of a loss' Hessian in one output: all of them, or `most` random sums."""

    #: Whose curvature it is.
    loss_name: ClassVar[str]

    def __init__(self, output: int, most: int, seed: int) -> None:
        self._output, self._most, self._seed = output, most, seed

    def of(self, outputs: Tensors, call: Call) -> Iterator[torch.Tensor]:
        found = outputs[self._output].double()
        if found.dim() < 2:
            found = found.reshape(-1, 1)
        if found.dim() == 2 and found.shape[1] <= self._most:
            for column in range(found.shape[1]):
                signs = functional.one_hot(torch.tensor(column), found.shape[1]).to(found)
                yield self._along(found, signs.expand_as(found))
            return
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + call.number)
        for _ in range(self._most):
            signs = torch.randint(0, 2, found.shape, generator=generator).to(found) * 2 - 1
            yield self._along(found, signs) / self._most**0.5

    @abc.abstractmethod
    def _along(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Σ (S·weights)·outputs, S held fixed."""


@final
class ClassCurvature(Curvature):
    """Of the cross-entropy: diag(p) − p·pᵀ = S·Sᵀ with S = diag(√p) − p·√pᵀ, whatever the labels.

    A softmax at the end changes nothing: logarithms of probabilities are scores with the same softmax.
    """

    loss_name = "cross-entropy"

    def _along(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        scores = outputs
        if are_probabilities(outputs.detach().cpu(), 1):
            scores = outputs.clamp_min(_LEAST).log()
        share = scores.detach().softmax(dim=1)
        centred = scores - (share * scores).sum(dim=1, keepdim=True)
        return (weights * share.sqrt() * centred).sum()


@final
class SquareCurvature(Curvature):
    """Of half the squared error: the identity."""

    loss_name = "squared error"

    def _along(self, outputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return (weights * outputs).sum()


@final
@dataclass(frozen=True, eq=False)
class Tracked:
    """A weight whose gradients are wanted: by its uses, sample by sample, or (where these are no plain
    products) as a parameter of the module, call by call."""

    items: tuple[Unfolding, ...] = ()
    parameter: torch.Tensor | None = None


def squared_gradients(
    seen: Observed, tracked: Sequence[Tracked], directions: Directions
) -> list[torch.Tensor]:
    """Squared gradients per sample, summed over directions, mean over samples; float64. Of uses they are laid
    out as (groups, outputs, columns), of parameters as these are."""
    totals: list[torch.Tensor | None] = [None] * len(tracked)
    samples = 0
    values = list(dict.fromkeys(v for one in tracked for item in one.items for v in (item.data, item.made)))
    with seen.module.watching(values) as watched:
        for call in seen.passes:
            outputs = run_with_gradients(seen, call)
            samples += call.rows
            wanted = [watched[item.made] for one in tracked for item in one.items]
            wanted += [one.parameter for one in tracked if one.parameter is not None]
            for scalar in directions.of(outputs, call):
                found = iter(_gradients(scalar, wanted))
                made = [[next(found) for _ in one.items] for one in tracked]
                for place, one in enumerate(tracked):
                    gradient = next(found) if one.parameter is not None else None
                    reads = [watched[item.data].detach() for item in one.items]
                    part = _squares(one, reads, made[place], gradient)
                    before = totals[place]
                    totals[place] = part if before is None else before + part
    return [total / max(1, samples) for total in totals if total is not None]


def batch_gradients(
    seen: Observed, parameters: Sequence[torch.Tensor], directions: Directions
) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """For every call and direction: how many rows, and the gradients of the mean over them."""
    for call in seen.passes:
        outputs = run_with_gradients(seen, call)
        for scalar in directions.of(outputs, call):
            yield call.rows, [one / call.rows for one in _gradients(scalar, parameters)]


def run_with_gradients(seen: Observed, call: Call) -> Tensors:
    """Outputs that lead back to parameters and inner values. Raises ModelNotRunnableError."""
    inputs = [one.detach().requires_grad_() if one.is_floating_point() else one for one in call.inputs]
    try:
        outputs: Tensors = seen.module(*inputs)
    except RuntimeError as error:
        raise_if_memory(error)
        raise ModelNotRunnableError(f"torch fails on the model: {str(error)[:200]}") from error
    return outputs


def _gradients(scalar: torch.Tensor, wanted: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    if not scalar.requires_grad:
        return [torch.zeros_like(one) for one in wanted]
    found = torch.autograd.grad(scalar, list(wanted), retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(one) if gradient is None else gradient
        for one, gradient in zip(wanted, found, strict=True)
    ]


def _squares(
    one: Tracked, reads: Sequence[torch.Tensor], made: Sequence[torch.Tensor], gradient: torch.Tensor | None
) -> torch.Tensor:
    if gradient is not None:
        return gradient.double().square()
    rows = [item.rows(data) for item, data in zip(one.items, reads, strict=True)]
    results = [item.results(found) for item, found in zip(one.items, made, strict=True)]
    if len(one.items) == 1 and rows[0].shape[2] == 1:
        # One position: the square of a product is the product of squares.
        return (results[0].double().square()[:, :, 0].mT) @ rows[0].double().square()[:, :, 0]
    return _per_sample(rows, results)


def _per_sample(rows: Sequence[torch.Tensor], results: Sequence[torch.Tensor]) -> torch.Tensor:
    """Gradients of each sample, over all positions and uses, before they are squared."""
    groups, samples, _, columns = rows[0].shape
    outputs = results[0].shape[3]
    total = torch.zeros(groups, outputs, columns, dtype=torch.float64, device=rows[0].device)
    step = max(1, _AT_ONCE // (groups * outputs * columns))
    for start in range(0, samples, step):
        part = slice(start, start + step)
        each = sum(
            made[:, part].mT @ read[:, part].to(made.dtype) for read, made in zip(rows, results, strict=True)
        )
        total += torch.as_tensor(each).double().square().sum(dim=1)
    return total
