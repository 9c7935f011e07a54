"""The metrics of one output against the dataset's targets; which ones, the targets themselves decide."""

import functools
from collections.abc import Callable, Sequence
from typing import Final, final

import numpy as np

from api_schemas.report import AccuracyReport, MetricReport
from worker.engine.data.tasks import Kind, Task, task_of
from worker.engine.types import Array
from worker.engine.verify.agreement import name_of
from worker.engine.verify.metrics import (
    Binary,
    BinaryOverlap,
    Labels,
    MeanOverlap,
    Metric,
    OneHot,
    SignalToNoise,
    SquaredError,
    TopFive,
)

Make = Callable[[], Metric]
#: Fewer classes than this make five guesses no feat.
_TOP_FIVE_FROM: Final = 10


def metrics_for(task: Task, output: Array) -> tuple[Make, ...]:
    """How to measure an output: the metric that decides first, others after it."""
    if task.kind is Kind.VALUES:
        return (SquaredError, SignalToNoise) if _is_picture(output) else (SquaredError,)
    if task.kind is Kind.SCORES:
        decisive = functools.partial(Binary, task.name)
        return (decisive, BinaryOverlap) if task.many_places else (decisive,)
    labels = functools.partial(Labels, task.name, task.axis, many_places=task.many_places)
    makes: tuple[Make, ...] = (labels, *_further(task, output))
    return tuple(functools.partial(_one_hot, make) for make in makes) if task.kind is Kind.ONE_HOT else makes


def _further(task: Task, output: Array) -> tuple[Make, ...]:
    if task.name == "pixel accuracy":
        return (functools.partial(MeanOverlap, task.axis),)
    if task.axis is not None and not task.many_places and output.shape[task.axis] >= _TOP_FIVE_FROM:
        return (functools.partial(TopFive, task.axis),)
    return ()


def _one_hot(make: Make) -> Metric:
    return OneHot(make())


def _is_picture(output: Array) -> bool:
    """Whether an output is pixels: (rows, channels, height, width), in whatever order."""
    return output.ndim == 4 and output.size > len(output)


@final
class AccuracyTally:
    """The metrics of both files. Output and metrics are chosen on the first batch, by the uploaded file."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._rows, self._output = 0, 0
        self._pairs: list[tuple[Metric, Metric]] = []

    def add(self, before: Sequence[Array], after: Sequence[Array], targets: Array) -> None:
        """Take in the outputs of both files for one batch. Raises `NeedsLabelsError`."""
        if not self._pairs:
            task = task_of(before, targets)
            self._output = task.output
            self._pairs = [(make(), make()) for make in metrics_for(task, before[task.output])]
        self._rows += len(targets)
        for old, new in self._pairs:
            old.add(before[self._output], targets)
            new.add(after[self._output], targets)

    def report(self) -> AccuracyReport | None:
        """The figures; None when nothing was taken in or the figure that decides is not finite."""
        figures = [_figures(old, new) for old, new in self._pairs]
        if not figures or figures[0] is None:
            return None
        return AccuracyReport(
            output=name_of(self._names, self._output),
            rows=self._rows,
            further=[figure for figure in figures[1:] if figure is not None],
            **figures[0].model_dump(),
        )


def _figures(before: Metric, after: Metric) -> MetricReport | None:
    """Both figures, the pruned file's scores taken for what the original's are; None unless finite."""
    old, new = before.value(), after.value_like(before)
    if not np.isfinite([old, new]).all():
        return None
    return MetricReport(metric=before.name, before=old, after=new, lower_is_better=before.lower_is_better)
