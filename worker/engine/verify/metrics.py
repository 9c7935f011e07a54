"""Figures of one output against targets, each growing batch by batch, in plain numpy."""

import abc
from typing import Final, final

import numpy as np

from worker.engine.data.tasks import check_labels, counted, is_one_hot
from worker.engine.errors import NeedsLabelsError
from worker.engine.types import Array

BINARY_THRESHOLDS: Final = {"probability": 0.5, "logit": 0.0}


class Metric(abc.ABC):
    """A figure that grows batch by batch. `name` ends in "accuracy" when it is a share of right answers."""

    name: str
    lower_is_better = False

    @abc.abstractmethod
    def add(self, output: Array, targets: Array) -> None:
        """Take in one batch. Raises `NeedsLabelsError` for targets that the output cannot mean."""

    @abc.abstractmethod
    def value(self) -> float:
        """The figure over everything taken in; NaN over nothing."""

    def value_like(self, _original: "Metric") -> float:
        """The figure, with the output read as that of the original is."""
        return self.value()


@final
class Labels(Metric):
    """Share of places where the largest score is the label's. The class axis is the given one, or none
    when the output holds labels itself. A place with NaN among its scores counts as wrong."""

    def __init__(self, name: str, axis: int | None, *, many_places: bool = False) -> None:
        self.name = name
        self._axis, self._many = axis, many_places
        self._right, self._total = 0, 0

    def add(self, output: Array, targets: Array) -> None:
        """`output` (rows, classes, …) or (rows, …, classes) against integer labels without that axis."""
        labels = targets.astype(np.int64)
        predicted, sure = predictions(output, labels.shape, self._axis)
        counts = _counts(labels, output, self._axis, many_places=self._many)
        self._right += int(np.count_nonzero((predicted == labels) & sure & counts))
        self._total += int(np.count_nonzero(counts))

    def value(self) -> float:
        """A share between 0 and 1."""
        return self._right / self._total if self._total else float("nan")


@final
class TopFive(Metric):
    """Share of rows where fewer than five classes score higher than the label's."""

    name = "top-5 accuracy"

    def __init__(self, axis: int) -> None:
        self._axis = axis
        self._right, self._total = 0, 0

    def add(self, output: Array, targets: Array) -> None:
        """`output` with a class axis, and labels without it."""
        scores = np.moveaxis(output, self._axis, 1).reshape(len(output), output.shape[self._axis], -1)
        labels = targets.astype(np.int64).reshape(len(output), 1, -1)
        check_labels(labels, scores.shape[1])
        own = np.take_along_axis(scores, labels, axis=1)
        right = ((scores > own).sum(axis=1) < 5) & ~np.isnan(scores).any(axis=1)
        self._right += int(np.count_nonzero(right))
        self._total += right.size

    def value(self) -> float:
        """A share between 0 and 1."""
        return self._right / self._total if self._total else float("nan")


@final
class OneHot(Metric):
    """A metric of labels against one-hot rows."""

    def __init__(self, labels: Metric) -> None:
        self.name = labels.name
        self._labels = labels

    def add(self, output: Array, targets: Array) -> None:
        """`output` and `targets` (rows, classes)."""
        if not is_one_hot(targets):
            raise NeedsLabelsError("some rows of `targets` are one-hot and others are not")
        self._labels.add(output, targets.argmax(axis=1))

    def value(self) -> float:
        """A share between 0 and 1."""
        return self._labels.value()


@final
class MeanOverlap(Metric):
    """Mean over classes of intersection over union of the places given to the class and those that are its.

    Over all rows together; classes that occur on neither side are left out.
    """

    name = "mean IoU"

    def __init__(self, axis: int | None) -> None:
        self._axis = axis
        self._overlap = _Overlap()

    def add(self, output: Array, targets: Array) -> None:
        """`output` with scores along the class axis, or labels, against labels of places."""
        labels = targets.astype(np.int64)
        predicted, sure = predictions(output, labels.shape, self._axis)
        counts = _counts(labels, output, self._axis, many_places=True)
        self._overlap.add(np.where(sure, predicted, -1)[counts], labels[counts])

    def value(self) -> float:
        """A share between 0 and 1."""
        return self._overlap.value()


class _Thresholded(Metric, abc.ABC):
    """A metric of one score for each 0 or 1. Scores that all lie in [0, 1] are probabilities and are cut at
    0.5, others logits and are cut at 0; a pruned file's are cut as those of the original."""

    def __init__(self) -> None:
        self._logits = False

    @property
    def logits(self) -> bool:
        """Whether any score so far was no probability."""
        return self._logits

    def add(self, output: Array, targets: Array) -> None:
        """`output` and `targets` of one size."""
        labels = targets.astype(np.int64)
        counts = counted(labels, 2, many_places=labels.ndim >= 3)
        scores = output.reshape(labels.shape)
        self._logits = self._logits or bool(((scores < 0) | (scores > 1)).any())
        for kind, threshold in BINARY_THRESHOLDS.items():
            predicted = np.where(np.isnan(scores), -1, scores > threshold)
            self._take(kind, predicted[counts], labels[counts])

    def value(self) -> float:
        """By the model's own kind of scores."""
        return self._of("logit" if self._logits else "probability")

    def value_like(self, original: Metric) -> float:
        """By the original's kind of scores."""
        logits = original.logits if isinstance(original, _Thresholded) else self._logits
        return self._of("logit" if logits else "probability")

    @abc.abstractmethod
    def _take(self, kind: str, predicted: Array, labels: Array) -> None:
        """Take in answers under one of the thresholds; −1 is no answer."""

    @abc.abstractmethod
    def _of(self, kind: str) -> float:
        """The figure under one of the thresholds."""


@final
class Binary(_Thresholded):
    """Share of 0/1 labels met by one score each; NaN counts as wrong."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._right = dict.fromkeys(BINARY_THRESHOLDS, 0)
        self._total = dict.fromkeys(BINARY_THRESHOLDS, 0)

    def _take(self, kind: str, predicted: Array, labels: Array) -> None:
        self._right[kind] += int(np.count_nonzero(predicted == labels))
        self._total[kind] += labels.size

    def _of(self, kind: str) -> float:
        return self._right[kind] / self._total[kind] if self._total[kind] else float("nan")


@final
class BinaryOverlap(_Thresholded):
    """Mean intersection over union of what is 0 and what is 1."""

    name = "mean IoU"

    def __init__(self) -> None:
        super().__init__()
        self._overlaps = {kind: _Overlap() for kind in BINARY_THRESHOLDS}

    def _take(self, kind: str, predicted: Array, labels: Array) -> None:
        self._overlaps[kind].add(predicted, labels)

    def _of(self, kind: str) -> float:
        return self._overlaps[kind].value()


class _Errors(Metric, abc.ABC):
    """Mean of the squared differences over all values, and the largest target."""

    def __init__(self) -> None:
        self._sum, self._total, self._largest = 0.0, 0, -np.inf

    def add(self, output: Array, targets: Array) -> None:
        """`output` and `targets` of one size."""
        with np.errstate(over="ignore", invalid="ignore"):
            wanted = targets.astype(np.float64).ravel()
            difference = output.astype(np.float64).ravel() - wanted
            self._sum += float(difference @ difference)
        self._total += difference.size
        self._largest = max(self._largest, float(wanted.max(initial=-np.inf)))

    def _mean(self) -> float:
        return self._sum / self._total if self._total else float("nan")


@final
class SquaredError(_Errors):
    """Mean of the squared differences over all values."""

    name = "mean squared error"
    lower_is_better = True

    def value(self) -> float:
        """In squared units of the targets."""
        return self._mean()


@final
class SignalToNoise(_Errors):
    """Peak signal to noise ratio over all pixels together: 10 log10(peak² / mean squared error).

    The peak is 1 where no target is above 1, else 255.
    """

    name = "PSNR"

    def value(self) -> float:
        """In dB; infinite where nothing differs."""
        peak = 1.0 if self._largest <= 1 else 255.0
        with np.errstate(divide="ignore"):
            return float(10 * np.log10(np.float64(peak**2) / np.float64(self._mean())))


class _Overlap:
    """Places by class: given to it, belonging to it, and both."""

    def __init__(self) -> None:
        self._both, self._either = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def add(self, predicted: Array, labels: Array) -> None:
        """Labels of the same places; −1 is no answer. Answers above every class of 2¹⁶ are none either."""
        predicted = np.where((predicted < 0) | (predicted >= 2**16), -1, predicted).astype(np.int64)
        size = int(max(predicted.max(initial=-1), labels.max(initial=-1))) + 1
        both = np.bincount(labels[predicted == labels], minlength=size)
        given = np.bincount(predicted[predicted >= 0], minlength=size)
        either = given + np.bincount(labels, minlength=size) - both
        self._both, self._either = _sum(self._both, both), _sum(self._either, either)

    def value(self) -> float:
        """The mean over classes that occur."""
        occurs = self._either > 0
        return float((self._both[occurs] / self._either[occurs]).mean()) if occurs.any() else float("nan")


def _sum(one: Array, other: Array) -> Array:
    size = max(len(one), len(other))
    total = np.zeros(size, np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def predictions(output: Array, places: tuple[int, ...], axis: int | None) -> tuple[Array, Array]:
    """(the class on top of every place, whether it has one: no score is NaN)."""
    if axis is None:
        found = output.reshape(places)
        return found, np.ones(places, np.bool_)
    sure = np.asarray(~np.isnan(output).any(axis=axis))
    return output.argmax(axis=axis).reshape(places), sure.reshape(places)


def _counts(labels: Array, output: Array, axis: int | None, *, many_places: bool) -> Array:
    if axis is not None:
        return counted(labels, output.shape[axis], many_places=many_places)
    if many_places:
        return np.asarray((labels != -100) & (labels != 255))
    return np.ones(labels.shape, np.bool_)
