"""What training makes small: losses against targets, chosen as the metric is, and against a teacher.

A model may end in softmax or sigmoid, or before it: whether its scores are probabilities is seen in a batch.
Everything is computed in single precision at least, whatever the model's own.
"""

import abc
from collections.abc import Sequence
from typing import ClassVar, Final, Literal, final

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.data.tasks import Kind, Task, counted, task_of
from worker.engine.errors import InvalidRecipeError

LossName = Literal["auto", "cross_entropy", "binary_cross_entropy", "mse", "l1", "smooth_l1"]
ImitationName = Literal["auto", "kl", "mse"]

#: Probabilities below this count as this.
_LEAST: Final = 1e-8
_UNCOUNTED: Final = -100
_SUM_TOLERANCE: Final = 1e-2


class Loss(abc.ABC):
    """A number to be made small, from a model's outputs and the targets of the same rows."""

    name: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The mean over the batch. Targets may lie on the CPU, where checking them costs no synchronisation.

        Raises `LabelsOutOfRangeError` for labels that name no class.
        """


@final
class CrossEntropy(Loss):
    """Negative log-likelihood of the labels, over all places that count.

    `probabilities` says that the model ends in softmax. A log-softmax at its end changes nothing: taking
    another gives the same numbers.
    """

    name = "cross_entropy"

    def __init__(self, task: Task, *, probabilities: bool, smoothing: float = 0.0) -> None:
        if task.axis is None:
            raise ValueError("cross-entropy needs an axis of classes")
        self._output, self._axis = task.output, task.axis
        self._one_hot, self._many = task.kind is Kind.ONE_HOT, task.many_places
        self._probabilities, self._smoothing = probabilities, smoothing

    def __call__(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """In nats."""
        scores = _precise(outputs[self._output]).movedim(self._axis, 1)
        logits = scores.clamp_min(_LEAST).log() if self._probabilities else scores
        places = (logits.shape[0], *logits.shape[2:])
        labels = self._labels(targets, logits.shape[1]).reshape(places).to(logits.device)
        return functional.cross_entropy(
            logits, labels, ignore_index=_UNCOUNTED, label_smoothing=self._smoothing
        )

    def _labels(self, targets: Tensor, classes: int) -> Tensor:
        labels = targets.argmax(dim=1) if self._one_hot else targets.long()
        counts = torch.from_numpy(counted(labels.cpu().numpy(), classes, many_places=self._many))
        return labels.masked_fill(~counts.to(labels.device), _UNCOUNTED)


@final
class BinaryCrossEntropy(Loss):
    """Of one score for each 0 or 1: a logit, or with `probabilities` what a sigmoid gave."""

    name = "binary_cross_entropy"

    def __init__(self, task: Task, *, probabilities: bool) -> None:
        self._output, self._many = task.output, task.many_places
        self._probabilities = probabilities

    def __call__(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """In nats, mean over all labels that count."""
        scores = _precise(outputs[self._output])
        labels = targets.reshape(scores.shape)
        found = counted(labels.cpu().numpy(), 2, many_places=self._many)
        counts = torch.from_numpy(found).to(scores.device)
        wanted = labels.to(scores.device, scores.dtype).masked_fill(~counts, 0)
        losses = self._each(scores, wanted) * counts
        return losses.sum() / max(1, int(found.sum()))

    def _each(self, scores: Tensor, wanted: Tensor) -> Tensor:
        if not self._probabilities:
            return functional.binary_cross_entropy_with_logits(scores, wanted, reduction="none")
        sure = scores.clamp(_LEAST, 1 - torch.finfo(scores.dtype).eps)
        return -(wanted * sure.log() + (1 - wanted) * (-sure).log1p())


class _Difference(Loss, abc.ABC):
    """A mean over all values of something that grows with output − target."""

    def __init__(self, task: Task) -> None:
        self._output = task.output

    def __call__(self, outputs: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The mean over all values."""
        found = _precise(outputs[self._output])
        return self._mean(found, targets.to(found.device, found.dtype).reshape(found.shape))

    @abc.abstractmethod
    def _mean(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Of two tensors of one shape."""


@final
class SquaredError(_Difference):
    """Mean squared difference."""

    name = "mse"

    def _mean(self, found: Tensor, wanted: Tensor) -> Tensor:
        return functional.mse_loss(found, wanted)


@final
class AbsoluteError(_Difference):
    """Mean absolute difference."""

    name = "l1"

    def _mean(self, found: Tensor, wanted: Tensor) -> Tensor:
        return functional.l1_loss(found, wanted)


@final
class SmoothAbsoluteError(_Difference):
    """Squared up to a difference of one, absolute beyond."""

    name = "smooth_l1"

    def _mean(self, found: Tensor, wanted: Tensor) -> Tensor:
        return functional.smooth_l1_loss(found, wanted)


_DIFFERENCES: Final[dict[str, type[_Difference]]] = {
    kind.name: kind for kind in (SquaredError, AbsoluteError, SmoothAbsoluteError)
}


def choose_loss(
    outputs: Sequence[Tensor], targets: Tensor, name: LossName = "auto", *, smoothing: float = 0.0
) -> Loss:
    """The loss that goes with the metric, seen on the first batch of the uploaded model; or the one named.

    Raises `NeedsLabelsError` when the targets fit no output, `InvalidRecipeError` when the loss named does
    not fit them.
    """
    task = task_of([_on_host(output).numpy() for output in outputs], _on_host(targets).numpy())
    chosen = _natural(task) if name == "auto" else name
    if chosen in _DIFFERENCES:
        return _DIFFERENCES[chosen](_of_values(task, outputs, targets, chosen))
    scores = _on_host(outputs[task.output])
    if chosen == "cross_entropy" and task.axis is not None:
        return CrossEntropy(task, probabilities=are_probabilities(scores, task.axis), smoothing=smoothing)
    if chosen == "binary_cross_entropy" and task.kind is Kind.SCORES:
        return BinaryCrossEntropy(task, probabilities=bool(((scores >= 0) & (scores <= 1)).all()))
    raise _unfitting(chosen, targets, outputs[task.output])


def _natural(task: Task) -> str:
    if task.kind in (Kind.CLASSES, Kind.ONE_HOT):
        return CrossEntropy.name
    if task.kind is Kind.SCORES:
        return BinaryCrossEntropy.name
    if task.kind is Kind.VALUES:
        return SquaredError.name
    raise InvalidRecipeError("the model gives out labels, not scores: nothing can be learnt from the targets")


def _of_values(task: Task, outputs: Sequence[Tensor], targets: Tensor, name: str) -> Task:
    if outputs[task.output].numel() != targets.numel() or task.kind is Kind.LABELS:
        raise _unfitting(name, targets, outputs[task.output])
    return task


def _unfitting(name: str, targets: Tensor, output: Tensor) -> InvalidRecipeError:
    return InvalidRecipeError(
        f"the loss {name} does not fit targets of shape {list(targets.shape)} and an output of shape "
        f"{list(output.shape)}",
        hint="leave out `loss`, and the one that fits is chosen",
    )


def are_probabilities(scores: Tensor, axis: int) -> bool:
    """Whether scores are what a softmax along the axis gave: from 0 to 1, and 1 together."""
    within = bool(((scores >= 0) & (scores <= 1)).all())
    return within and bool((scores.sum(dim=axis) - 1).abs().max() < _SUM_TOLERANCE)


class Imitation(abc.ABC):
    """A number to be made small: how far a model's tensors are from a teacher's, on the same rows."""

    name: ClassVar[str]

    @abc.abstractmethod
    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The mean over the batch. The tensors come in pairs; no gradient goes to the teacher's."""


@final
class SoftLabels(Imitation):
    """KL divergence from the teacher's classes to the student's at a temperature, times its square.

    Of one output, given by number, with its classes along `axis`. Source: Hinton et al. 2015, 1503.02531.
    """

    name = "kl"

    def __init__(
        self, output: int, *, axis: int = 1, temperature: float = 1.0, probabilities: bool = False
    ) -> None:
        self._output, self._axis = output, axis
        self._temperature, self._probabilities = temperature, probabilities

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """In nats."""
        own, wanted = self._log(student[self._output]), self._log(teacher[self._output].detach())
        each = (wanted.exp() * (wanted - own)).sum(dim=self._axis)
        return each.mean() * self._temperature**2

    def _log(self, scores: Tensor) -> Tensor:
        precise = _precise(scores)
        logits = precise.clamp_min(_LEAST).log() if self._probabilities else precise
        return functional.log_softmax(logits / self._temperature, dim=self._axis)


@final
class Distance(Imitation):
    """Mean squared difference of each pair of tensors, over the teacher's mean square, summed over pairs.

    For outputs and for inner tensors alike; pairs that are not floating point are passed over.
    """

    name = "mse"

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """0 for a perfect student, 1 per pair for one that gives zeros."""
        total = torch.zeros((), device=student[0].device)
        for own, wanted in zip(student, teacher, strict=True):
            if own.is_floating_point():
                fixed = _precise(wanted.detach())
                scale = fixed.square().mean().clamp_min(torch.finfo(fixed.dtype).tiny)
                total = total + functional.mse_loss(_precise(own), fixed) / scale
        return total


@final
class Sum(Imitation):
    """Several, added with weights."""

    name = "sum"

    def __init__(self, parts: Sequence[tuple[Imitation, float]]) -> None:
        self._parts = tuple(parts)

    def __call__(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The weighted sum."""
        return torch.stack([part(student, teacher) * weight for part, weight in self._parts]).sum()


def choose_imitation(
    teacher: Sequence[Tensor], name: ImitationName = "auto", *, temperature: float = 2.0
) -> Imitation:
    """How to follow a teacher, seen on a batch of its outputs.

    `kl` follows the classes of every output of (rows, classes), `mse` every output. `auto` does both: KL
    alone cannot see values that all classes of a row share, which matter where the output is no score.
    """
    classes = [index for index, output in enumerate(teacher) if _has_classes(output)]
    if name == "mse" or (name == "auto" and not classes):
        return Distance()
    if not classes:
        raise InvalidRecipeError("no output of the model has classes; follow the teacher by `mse`")
    parts: list[tuple[Imitation, float]] = [
        (_soft_labels(index, teacher[index], temperature), 1.0 / len(classes)) for index in classes
    ]
    return Sum(parts if name == "kl" else [*parts, (Distance(), 1.0)])


def _has_classes(output: Tensor) -> bool:
    trailing = output[0, 0].numel() == 1 if output.ndim >= 2 and len(output) and output.shape[1] else False
    return output.is_floating_point() and trailing and output.shape[1] >= 2


def _soft_labels(index: int, output: Tensor, temperature: float) -> SoftLabels:
    probabilities = are_probabilities(_on_host(output), 1)
    return SoftLabels(index, temperature=temperature, probabilities=probabilities)


def _precise(tensor: Tensor) -> Tensor:
    """At least single precision."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _on_host(tensor: Tensor) -> Tensor:
    found = tensor.detach().cpu()
    return found.float() if found.dtype == torch.bfloat16 else found
