"""Latency."""

from typing import ClassVar, final

from api_schemas.report import Report
from worker.engine import formats
from worker.engine.case import Case
from worker.engine.errors import InvalidRecipeError
from worker.engine.learning.distributed import World
from worker.engine.targets.base import Written
from worker.engine.targets.search import Effort
from worker.engine.types import Plan
from worker.engine.verify.feeds import find_feeds
from worker.engine.verify.latency import measure_latency

_SECONDS_PER_PROBE = 1.0


@final
class Latency(Written):
    """Median time of a run in the runtime, over that of the original, the two run in turn. Measured, so it is
    not the same twice; only where channels leave the file, for zeros do not make dense kernels faster."""

    unit: ClassVar[str] = "latency"
    noun: ClassVar[str] = "latency"
    effort: ClassVar[Effort] = Effort(closest=1e-3, most=12, seconds=60.0)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        if not case.shrinks:
            raise InvalidRecipeError(
                "a target in latency needs weights that leave the file: zeros make no dense kernel faster",
                hint='use "granularity": {"name": "channel"} with "apply": {"name": "shrink"}',
            )
        self._before = formats.runner(case.model, case.options, case.context.threads)
        feeds = find_feeds(case.data, case.inputs, case.network.inputs, self._before, case.context)
        if feeds.reason is not None:
            raise InvalidRecipeError(f"the latency cannot be measured: {feeds.reason}")
        self._batch = next(iter(feeds.batches(1, 1)))

    def figure(self, plan: Plan) -> float:
        # Of several processes one measures, while the others are quiet.
        return float(World.present().agreed(lambda: self._measured(plan)))

    def _measured(self, plan: Plan) -> float:
        with self.written(plan) as path:
            after = formats.runner(path, self.case.options, self.case.context.threads)
            found = measure_latency(
                self._before,
                after,
                self._batch.feeds,
                batch=self._batch.rows,
                budget_seconds=_SECONDS_PER_PROBE,
            )
        return found.after.median_ms / found.before.median_ms

    @staticmethod
    def achieved(report: Report) -> float | None:
        latency = report.latency
        if latency is None or not latency.before.median_ms:
            return None
        return latency.after.median_ms / latency.before.median_ms
