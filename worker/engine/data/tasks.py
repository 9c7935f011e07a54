"""What a dataset's targets ask of a model, told from the first batch: classes, scores, or values.

Integer targets are labels: of a class where an output has an axis for classes (one per pixel or position
where the shapes say so), of yes and no where it has one score for each 0 or 1. Other targets are values.
Metrics and losses both follow what is found here. Labels that no class answers to are an error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

import numpy as np

from worker.engine.errors import LabelsOutOfRangeError, NeedsLabelsError
from worker.engine.types import Array

#: Labels of pixels and positions that count for nothing: 255 where that is no class, and -100.
IGNORED: Final = (255, -100)


class Kind(StrEnum):
    """How targets are to be compared with an output."""

    CLASSES = "classes"
    ONE_HOT = "one_hot"
    LABELS = "labels"
    SCORES = "scores"
    VALUES = "values"


@final
@dataclass(frozen=True)
class Task:
    """The output that the targets are about, by number, and how they relate to it.

    `axis` is that of the classes. `name` is how a share of right answers is called.
    """

    output: int
    kind: Kind
    name: str = ""
    axis: int | None = None

    @property
    def many_places(self) -> bool:
        """Whether a row holds more than one label, each with a place, so that places may be ignored."""
        return self.name in ("pixel accuracy", "token accuracy")


def task_of(outputs: Sequence[Array], targets: Array) -> Task:
    """The first output that fits the targets of a batch, and how they are compared.

    Raises `NeedsLabelsError` that lists the shapes when none fits.
    """
    for index, output in enumerate(outputs):
        found = _task_for(index, output, targets) if output.dtype.kind not in "OSUc" else None
        if found is not None:
            return found
    shapes = ", ".join(str(list(output.shape)) for output in outputs[:10])
    raise NeedsLabelsError(
        f"`targets` of shape {list(targets.shape)} fits no output of the model; outputs of a batch: {shapes}",
        hint="give one label per row, one per pixel, or values of the output's own shape",
    )


def counted(labels: Array, classes: int, *, many_places: bool) -> Array:
    """True where a label counts. Raises `LabelsOutOfRangeError` unless the others are 0 … `classes` − 1."""
    counts = np.ones(labels.shape, np.bool_)
    if many_places:
        counts = labels != -100
        if classes <= 255:
            counts &= labels != 255
    check_labels(labels[counts], classes)
    return counts


def check_labels(labels: Array, classes: int) -> None:
    """Raise `LabelsOutOfRangeError` unless every label is one of 0 … `classes` − 1."""
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise LabelsOutOfRangeError(
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


def _task_for(index: int, output: Array, targets: Array) -> Task | None:
    """How one output compares with one batch of targets; None when their shapes do not fit."""
    if not output.ndim or not targets.ndim or output.shape[0] != targets.shape[0]:
        return None
    same = squeezed(output.shape) == squeezed(targets.shape)
    if targets.dtype.kind not in "biu" and same:
        return Task(index, Kind.VALUES)
    if not holds_labels(targets):
        return None
    return _same_shape(index, output, targets) if same else _with_classes(index, output.shape, targets.shape)


def _same_shape(index: int, output: Array, targets: Array) -> Task:
    """Labels of the output's own shape: labels predicted, one-hot rows, or one score per label."""
    if output.dtype.kind in "biu":
        return Task(index, Kind.LABELS, "pixel accuracy" if output.ndim >= 3 else "label accuracy")
    if output.ndim == 2 and is_one_hot(targets):
        return Task(index, Kind.ONE_HOT, "top-1 accuracy", 1)
    if not np.isin(targets, (0, 1)).all() and not _masked(output, targets):
        return Task(index, Kind.VALUES)  # a regression, counted in whole numbers
    many = int(np.prod(output.shape[1:])) > 1
    name = "binary accuracy" if not many else "pixel accuracy" if output.ndim >= 3 else "multi-label accuracy"
    return Task(index, Kind.SCORES, name)


def _masked(output: Array, targets: Array) -> bool:
    """Whether the labels of pixels are 0, 1 and what is ignored."""
    return output.ndim >= 3 and bool(np.isin(targets, (0, 1, *IGNORED)).all())


def _with_classes(index: int, output: tuple[int, ...], targets: tuple[int, ...]) -> Task | None:
    """Labels of the output's shape but for a class axis: the second, or the last for sequences."""
    places = squeezed(targets)
    for axis in (1, len(output) - 1):
        has_classes = 0 < axis < len(output) and output[axis] >= 2
        if has_classes and squeezed(output[:axis] + output[axis + 1 :]) == places:
            return Task(index, Kind.CLASSES, _share(places, targets), axis)
    return None


def _share(places: tuple[int, ...], targets: tuple[int, ...]) -> str:
    if places == targets[:1]:
        return "top-1 accuracy"
    return "pixel accuracy" if len(places) > 2 else "token accuracy"


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of one, but for the row."""
    return shape[:1] + tuple(size for size in shape[1:] if size != 1)
