"""Accuracy."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, final

from api_schemas.report import AccuracyReport, Report
from worker.engine import formats
from worker.engine.case import Case
from worker.engine.context import quietly
from worker.engine.errors import NeedsLabelsError
from worker.engine.rounds import carry_out
from worker.engine.targets.base import Written
from worker.engine.targets.search import Effort
from worker.engine.types import Goal, Plan
from worker.engine.verify.comparison import compare
from worker.engine.verify.feeds import BATCH, MOST_ROWS, find_feeds

_HEALING = Effort(closest=2e-3, most=12, seconds=3600.0)
#: What all is lost is worth: outputs that are no numbers answer nothing right.
_ALL = 100.0


@final
class AccuracyDrop(Written):
    """Percentage points of accuracy lost on the uploaded data, on the rows that the report compares, after
    whatever the recipe heals by. The largest sparsity is sought, taking the drop to grow with it;
    `target_probes` shows whether it does."""

    unit: ClassVar[str] = "accuracy_drop"
    noun: ClassVar[str] = "accuracy"
    grows: ClassVar[bool] = True
    effort: ClassVar[Effort] = Effort(closest=1e-4, most=24, seconds=300.0)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if case.data is None:
            raise NeedsLabelsError("a target of `accuracy_drop` needs a dataset with `targets`")
        self._before = formats.runner(case.model, case.options, case.context.threads)
        self._feeds = find_feeds(case.data, case.inputs, case.network.inputs, self._before, case.context)

    def spend(self) -> Effort:
        """Where every try heals, fewer and coarser tries have to do."""
        return _HEALING if self.case.course else self.effort

    def figure(self, plan: Plan) -> float:
        with self._finished(plan) as path:
            after = formats.runner(path, self.case.options, self.case.context.threads)
            batches = self._feeds.batches(MOST_ROWS, BATCH)
            found = compare(self._before, after, batches, self._feeds.source)
        if found.accuracy is not None:
            return _drop(found.accuracy)
        if plan.sparsity == 0.0 or self.case.data is None or not self.case.data.has_targets:
            raise NeedsLabelsError(f"the accuracy cannot be measured: {found.accuracy_reason}")
        return _ALL

    def _finished(self, plan: Plan) -> AbstractContextManager[Path]:
        """The file that the job would end with. Without rounds and healing a plan says it all, and so it does
        where nothing goes or everything."""
        once = plan.goal is None or (not self.case.course and self._rounds(plan.goal) == 1)
        if plan.goal is None or once or plan.sparsity in (0.0, 1.0):
            return self.written(plan)
        return self._carried_out(plan.goal)

    def _rounds(self, goal: Goal) -> int:
        return len(list(self.case.parts.schedule.steps(goal)))

    @contextmanager
    def _carried_out(self, goal: Goal) -> Iterator[Path]:
        quiet = replace(self.case, context=quietly(self.case.context))
        network = carry_out(quiet, *quiet.afresh(), goal).network
        with tempfile.TemporaryDirectory(prefix="probe-", dir=self.case.context.scratch) as folder:
            path = Path(folder) / f"probe{network.suffix}"
            network.save(path)
            yield path

    @staticmethod
    def achieved(report: Report) -> float | None:
        return None if report.accuracy is None else _drop(report.accuracy)

    def shown(self, figure: float) -> str:
        return f"{figure:.4g} points of accuracy"


def _drop(accuracy: AccuracyReport) -> float:
    """Points lost; negative where accuracy grew."""
    if not accuracy.metric.endswith("accuracy"):
        raise NeedsLabelsError(
            f"a target of `accuracy_drop` is in points of accuracy; these targets give the {accuracy.metric}",
            hint="give class labels as `targets`, or choose another unit",
        )
    return 100.0 * (accuracy.before - accuracy.after)
