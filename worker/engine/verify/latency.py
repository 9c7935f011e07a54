"""How long the two files take, run in turn so that heat, clocks and neighbours hit both alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from api_schemas.report import LatencyFigures, LatencyReport
from worker.engine.types import Array

MOST_RUNS, LEAST_RUNS, WARM_UPS = 200, 5, 3
#: A difference smaller than this share is none.
NEGLIGIBLE = 0.05
_WARM_UP_SHARE = 0.2
#: How the remark begins when the file got slower.
SLOWER = "Slower"

DENSE_KERNELS = (
    "Zeros alone do not make dense kernels faster: the runtime multiplies by a zero as by any other number. "
    "The gain of this file is in its compressed size, and in runtimes with sparse kernels."
)


class Runs(Protocol):
    """What is measured: a `worker.engine.formats.base.Runner`, or anything that runs like one."""

    runtime: str
    device: str
    threads: int

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Run once."""
        ...


def measure_latency(
    before: Runs,
    after: Runs,
    feeds: Mapping[str, Array],
    *,
    batch: int,
    budget_seconds: float = 5.0,
    cause: str = DENSE_KERNELS,
    clock: Callable[[], float] = time.perf_counter,
) -> LatencyReport:
    """Run both on the same `feeds` (`batch` rows) in turn, after warming up, until the budget is spent.

    At least `LEAST_RUNS` and at most `MOST_RUNS` runs of each are timed; the order changes each time. `cause`
    is told where there is no gain.
    Raises what the runners raise.
    """
    end = clock() + budget_seconds
    _warm_up((before, after), feeds, clock, clock() + _WARM_UP_SHARE * budget_seconds)
    first, second = list[float](), list[float]()
    while len(first) < LEAST_RUNS or (len(first) < MOST_RUNS and clock() < end):
        turns = [(before, first), (after, second)]
        for runner, times in turns if len(first) % 2 == 0 else reversed(turns):
            times.append(_timed(runner, feeds, clock))
    old, new = _figures(first), _figures(second)
    return LatencyReport(
        runtime=after.runtime,
        device=after.device,
        batch=batch,
        threads=after.threads,
        before=old,
        after=new,
        speedup=_speedup(old, new),
        remark=remark(old, new, cause),
    )


def _warm_up(
    runners: Sequence[Runs], feeds: Mapping[str, Array], clock: Callable[[], float], end: float
) -> None:
    """First runs allocate and choose kernels: not timed. One each at least, more while there is time."""
    for turn in range(WARM_UPS):
        if turn and clock() >= end:
            return
        for runner in runners:
            runner.run(feeds)


def _timed(runner: Runs, feeds: Mapping[str, Array], clock: Callable[[], float]) -> float:
    begun = clock()
    runner.run(feeds)
    return clock() - begun


def _figures(seconds: Sequence[float]) -> LatencyFigures:
    median, p90 = np.percentile(np.asarray(seconds) * 1000, [50, 90])
    return LatencyFigures(median_ms=float(median), p90_ms=float(p90), runs=len(seconds))


def _speedup(before: LatencyFigures, after: LatencyFigures) -> float:
    return before.median_ms / after.median_ms if after.median_ms > 0 else 1.0


def remark(before: LatencyFigures, after: LatencyFigures, cause: str = DENSE_KERNELS) -> str:
    """What the figures come to, in words, and, where that is no gain, the likely `cause`. A difference within
    the spread of the runs is called none."""
    speedup = _speedup(before, after)
    if abs(speedup - 1) < NEGLIGIBLE:
        return f"As fast as before. {cause}"
    if abs(before.median_ms - after.median_ms) < max(_spread(before), _spread(after)):
        return f"No difference beyond the spread of the runs. {cause}"
    if speedup > 1:
        return f"Faster: a run takes {1 - 1 / speedup:.0%} less time than before."
    return f"{SLOWER}: a run takes {1 / speedup - 1:.0%} more time than before. {cause}"


def _spread(figures: LatencyFigures) -> float:
    return figures.p90_ms - figures.median_ms
