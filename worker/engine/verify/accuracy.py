"""A metric of one output against the dataset's targets; which one, the targets themselves decide.

Integer targets are labels: top-1 accuracy where an output has a class axis (per pixel or position where
the shapes say so), binary accuracy where it has one score for each 0 or 1. Other targets are values: mean
squared error. Labels that no class answers to are an error, not a wrong answer.
"""

import abc
import functools
from collections.abc import Callable, Sequence
from typing import final

import numpy as np

from api_schemas.report import AccuracyReport
from worker.engine.errors import NeedsLabelsError
from worker.engine.types import Array
from worker.engine.verify.agreement import name_of

BINARY_THRESHOLDS = {"probability": 0.5, "logit": 0.0}


class Metric(abc.ABC):
    """A figure that grows batch by batch. `name` ends in "accuracy" when it is a share of right answers."""

    name: str
    lower_is_better = False

    @abc.abstractmethod
    def add(self, output: Array, targets: Array) -> None:
        """Take in one batch. Raises `NeedsLabelsError` for targets that the output cannot mean."""

    @abc.abstractmethod
    def value(self) -> float:
        """The figure over everything taken in."""


@final
class Labels(Metric):
    """Share of places where the largest score is the label's. The class axis is the given one, or none
    when the output holds labels itself. A place with NaN among its scores counts as wrong."""

    def __init__(self, name: str, axis: int | None) -> None:
        self.name = name
        self._axis = axis
        self._right, self._total = 0, 0

    def add(self, output: Array, targets: Array) -> None:
        """`output` (rows, classes, …) or (rows, …, classes) against integer labels without that axis."""
        labels = targets.astype(np.int64)
        if self._axis is None:
            right = output.reshape(labels.shape) == labels
        else:
            check_labels(labels, output.shape[self._axis])
            broken = np.isnan(output).any(axis=self._axis)
            right = (output.argmax(axis=self._axis).reshape(labels.shape) == labels) & ~broken.reshape(
                labels.shape
            )
        self._right += int(np.count_nonzero(right))
        self._total += labels.size

    def value(self) -> float:
        """A share between 0 and 1."""
        return self._right / self._total if self._total else float("nan")


@final
class OneHot(Metric):
    """Top-1 accuracy against one-hot rows."""

    name = "top-1 accuracy"

    def __init__(self) -> None:
        self._labels = Labels(self.name, 1)

    def add(self, output: Array, targets: Array) -> None:
        """`output` and `targets` (rows, classes)."""
        if not is_one_hot(targets):
            raise NeedsLabelsError("some rows of `targets` are one-hot and others are not")
        self._labels.add(output, targets.argmax(axis=1))

    def value(self) -> float:
        """A share between 0 and 1."""
        return self._labels.value()


@final
class Binary(Metric):
    """Share of 0/1 labels met by one score each. Scores that all lie in [0, 1] are probabilities and are
    cut at 0.5, others logits and are cut at 0; NaN counts as wrong."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._right = dict.fromkeys(BINARY_THRESHOLDS, 0)
        self._total, self._logits = 0, False

    def add(self, output: Array, targets: Array) -> None:
        """`output` and `targets` of one size."""
        labels = targets.astype(np.int64)
        check_labels(labels, 2)
        scores = output.reshape(labels.shape)
        self._logits = self._logits or bool(((scores < 0) | (scores > 1)).any())
        for kind, threshold in BINARY_THRESHOLDS.items():
            right = ((scores > threshold) == (labels == 1)) & ~np.isnan(scores)
            self._right[kind] += int(np.count_nonzero(right))
        self._total += labels.size

    @property
    def logits(self) -> bool:
        """Whether any score so far was no probability."""
        return self._logits

    def value(self) -> float:
        """A share between 0 and 1, by the model's own kind of scores."""
        return self.value_as(logits=self._logits)

    def value_as(self, *, logits: bool) -> float:
        """The share when scores are of the kind stated."""
        return (
            self._right["logit" if logits else "probability"] / self._total if self._total else float("nan")
        )


@final
class SquaredError(Metric):
    """Mean of the squared differences over all values."""

    name = "mean squared error"
    lower_is_better = True

    def __init__(self) -> None:
        self._sum, self._total = 0.0, 0

    def add(self, output: Array, targets: Array) -> None:
        """`output` and `targets` of one size."""
        with np.errstate(over="ignore", invalid="ignore"):
            difference = output.astype(np.float64).ravel() - targets.astype(np.float64).ravel()
            self._sum += float(difference @ difference)
        self._total += difference.size

    def value(self) -> float:
        """In squared units of the targets."""
        return self._sum / self._total if self._total else float("nan")


def check_labels(labels: Array, classes: int) -> None:
    """Raise `NeedsLabelsError` unless every label is one of 0 … `classes` − 1."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise NeedsLabelsError(
            f"`targets` holds labels from {labels.min()} to {labels.max()}; "
            f"the model's output has {classes} classes, so labels go from 0 to {classes - 1}",
            hint="count classes from 0, and leave out rows without a label",
        )


def is_one_hot(targets: Array) -> bool:
    """Whether every row of (rows, classes) holds a single 1 and zeros besides."""
    if targets.ndim != 2 or targets.shape[1] < 2:
        return False
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all())


def holds_labels(targets: Array) -> bool:
    """Whether targets are whole numbers, in whatever type they came."""
    return targets.dtype.kind in "biu" or bool((targets == np.floor(targets)).all())


Make = Callable[[], Metric]


def choose(outputs: Sequence[Array], targets: Array) -> tuple[int, Make]:
    """The first output that fits the targets of a batch, and how to measure it.

    Raises `NeedsLabelsError` that lists the shapes when none fits.
    """
    for index, output in enumerate(outputs):
        make = metric_for(output, targets) if output.dtype.kind not in "OSUc" else None
        if make is not None:
            return index, make
    shapes = ", ".join(str(list(output.shape)) for output in outputs[:10])
    raise NeedsLabelsError(
        f"`targets` of shape {list(targets.shape)} fits no output of the model; outputs of a batch: {shapes}",
        hint="give one label per row, one per pixel, or values of the output's own shape",
    )


def metric_for(output: Array, targets: Array) -> Make | None:
    """How to measure one output against one batch of targets; None when their shapes do not fit."""
    if not output.ndim or not targets.ndim or output.shape[0] != targets.shape[0]:
        return None
    values = targets.dtype.kind not in "biu"
    same = _squeezed(output.shape) == _squeezed(targets.shape)
    if values and same:
        return SquaredError
    if not holds_labels(targets):
        return None
    return _same_shape(output, targets) if same else _with_classes(output.shape, targets.shape)


def _same_shape(output: Array, targets: Array) -> Make:
    """Labels of the output's own shape: labels predicted, one-hot rows, or one score per label."""
    if output.dtype.kind in "biu":
        return functools.partial(Labels, "label accuracy", None)
    if output.ndim == 2 and is_one_hot(targets):
        return OneHot
    if not ((targets == 0) | (targets == 1)).all():
        return SquaredError  # whole numbers against one score each: a regression, counted in integers
    many = int(np.prod(output.shape[1:])) > 1
    name = "binary accuracy" if not many else "pixel accuracy" if output.ndim >= 3 else "multi-label accuracy"
    return functools.partial(Binary, name)


def _with_classes(output: tuple[int, ...], targets: tuple[int, ...]) -> Make | None:
    """Labels of the output's shape but for a class axis: the second, or the last for sequences."""
    places = _squeezed(targets)
    name = (
        "top-1 accuracy"
        if places == targets[:1]
        else "pixel accuracy"
        if len(places) > 2
        else "token accuracy"
    )
    for axis in (1, len(output) - 1):
        has_classes = 0 < axis < len(output) and output[axis] >= 2
        if has_classes and _squeezed(output[:axis] + output[axis + 1 :]) == places:
            return functools.partial(Labels, name, axis)
    return None


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of one, but for the row."""
    return shape[:1] + tuple(size for size in shape[1:] if size != 1)


@final
class AccuracyTally:
    """The metric of both files. Output and metric are chosen on the first batch, by the uploaded file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._rows, self._output = 0, 0
        self._before: Metric | None = None
        self._after: Metric | None = None

    def add(self, before: Sequence[Array], after: Sequence[Array], targets: Array) -> None:
        """Take in the outputs of both files for one batch. Raises `NeedsLabelsError`."""
        if self._before is None or self._after is None:
            self._output, make = choose(before, targets)
            self._before, self._after = make(), make()
        self._rows += len(targets)
        self._before.add(before[self._output], targets)
        self._after.add(after[self._output], targets)

    def report(self) -> AccuracyReport | None:
        """The figures; None when nothing was taken in or a figure is not finite."""
        if self._before is None or self._after is None:
            return None
        before, after = self._before.value(), _like(self._before, self._after)
        if not np.isfinite([before, after]).all():
            return None
        return AccuracyReport(
            metric=self._before.name,
            output=name_of(self._names, self._output),
            rows=self._rows,
            before=before,
            after=after,
            lower_is_better=self._before.lower_is_better,
        )


def _like(before: Metric, after: Metric) -> float:
    """The pruned file's figure, its scores taken for what the uploaded file's are."""
    if isinstance(before, Binary) and isinstance(after, Binary):
        return after.value_as(logits=before.logits)
    return after.value()
