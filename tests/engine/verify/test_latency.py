"""Latency on a clock of our own: turns, budget, figures and words. No real time is measured here."""

import statistics
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.report import LatencyFigures, LatencyReport
from worker.engine.verify import measure_latency
from worker.engine.verify.latency import LEAST_RUNS, MOST_RUNS, WARM_UPS, remark


class Clock:
    """Time that passes only while something runs."""

    def __init__(self) -> None:
        self.now = 100.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now


class SlowRunner:
    """Takes the durations it is told, over and over."""

    runtime, device, threads = "fake", "cpu", 2

    def __init__(self, name: str, clock: Clock, durations: list[float]) -> None:
        self._name, self._clock, self._durations = name, clock, durations
        self.runs = 0

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self._clock.order.append(self._name)
        self._clock.now += self._durations[self.runs % len(self._durations)]
        self.runs += 1
        return []


def measure(before: list[float], after: list[float], budget: float) -> tuple[LatencyReport, Clock]:
    """A measurement of runs with these durations."""
    clock = Clock()
    runners = SlowRunner("before", clock, before), SlowRunner("after", clock, after)
    return measure_latency(*runners, {}, batch=1, budget_seconds=budget, clock=clock), clock


durations = st.lists(st.floats(0.001, 0.1), min_size=1, max_size=7)


@settings(deadline=None)
@given(durations, durations, st.floats(0.01, 3))
def test_figures_are_those_of_the_timed_runs(before: list[float], after: list[float], budget: float) -> None:
    report, clock = measure(before, after, budget)
    runs = report.before.runs
    assert report.after.runs == runs
    assert LEAST_RUNS <= runs <= MOST_RUNS
    warm = clock.order.count("before") - runs
    assert 1 <= warm <= WARM_UPS
    timed = [before[index % len(before)] * 1000 for index in range(warm, warm + runs)]
    assert report.before.median_ms == pytest.approx(statistics.median(timed))
    assert min(timed) - 1e-9 <= report.before.p90_ms <= max(timed) + 1e-9
    assert sum(value <= report.before.p90_ms + 1e-9 for value in timed) >= 0.9 * runs - 1
    assert report.speedup == pytest.approx(report.before.median_ms / report.after.median_ms)


def test_the_files_take_turns_and_swap_who_goes_first() -> None:
    report, clock = measure([0.01], [0.01], 0.5)
    timed = clock.order[-2 * report.before.runs :]
    pairs = list(zip(timed[::2], timed[1::2], strict=True))
    assert pairs[::2] == [("before", "after")] * len(pairs[::2])
    assert pairs[1::2] == [("after", "before")] * len(pairs[1::2])


def test_a_slow_model_is_run_only_a_few_times() -> None:
    report, clock = measure([60.0], [60.0], 5.0)
    assert report.before.runs == LEAST_RUNS
    assert len(clock.order) == 2 * (LEAST_RUNS + 1)


def test_a_quick_model_is_run_often_but_not_for_ever() -> None:
    report, _ = measure([1e-6], [1e-6], 5.0)
    assert report.before.runs == MOST_RUNS


def figures(median: float, spread: float = 0.0) -> LatencyFigures:
    """Figures with a distance between median and 90th percentile."""
    return LatencyFigures(median_ms=median, p90_ms=median + spread, runs=100)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (figures(10), figures(10.1), "As fast as before. Zeros alone do not make dense kernels faster"),
        (figures(10), figures(5), "Faster: a run takes 50% less time than before."),
        (figures(10), figures(15), "Slower: a run takes 50% more time than before. Zeros alone do not"),
        (figures(10, 4), figures(8, 1), "No difference beyond the spread of the runs. Zeros alone"),
        (figures(10, 1), figures(12, 4), "No difference beyond the spread of the runs. Zeros alone"),
    ],
)
def test_the_remark_says_what_came_of_it(before: LatencyFigures, after: LatencyFigures, words: str) -> None:
    assert remark(before, after).startswith(words)


def test_where_and_how_it_ran_is_stated() -> None:
    report, _ = measure([0.01], [0.01], 0.1)
    assert (report.runtime, report.device, report.threads, report.batch) == ("fake", "cpu", 2, 1)
