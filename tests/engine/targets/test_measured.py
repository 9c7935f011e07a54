"""Targets that are measured by running the model: latency and accuracy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from api_schemas.report import LatencyFigures, LatencyReport, Report
from tests.engine import chains
from tests.engine.masks import recipe
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, NeedsLabelsError
from worker.engine.formats.base import LoadOptions
from worker.engine.pipeline import Source, plan, prune
from worker.engine.recovery.fine_tune import FineTuning
from worker.engine.targets import base, latency
from worker.engine.types import Plan
from worker.engine.verify import examine

CHANNELS = {"granularity": "channel", "apply": "shrink"}


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def _prune(source: Source, scratch: Path, **request: Any) -> Report:
    (scratch / "output").mkdir(parents=True)
    return prune(source, recipe(**request), scratch / "output", Context(scratch))[1]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A small network with 400 rows that it answers all rightly."""
    chain = chains.vgg(tmp_path / "m.onnx", [3, 16, 24], [20, 10])
    rows = np.random.default_rng(0).standard_normal((400, 3, 8, 8)).astype(np.float32)
    scores = formats.runner(chain.path, LoadOptions(scratch=tmp_path), 1).run({"x": rows})[0]
    np.savez(tmp_path / "data.npz", x=rows, targets=scores.argmax(axis=1))
    np.savez(tmp_path / "values.npz", x=rows, targets=scores.astype(np.float64) + 0.25)
    np.savez(tmp_path / "bare.npz", x=rows)
    return Source(chain.path, "m.onnx", tmp_path / "data.npz")


@pytest.mark.parametrize("request_", [{}, CHANNELS])
@pytest.mark.parametrize("points", [2.0, 15.0])
def test_the_drop_stays_within_the_points_and_the_next_plan_tried_does_not(
    source: Source, tmp_path: Path, points: float, request_: dict[str, Any]
) -> None:
    report = _prune(source, tmp_path / "a", target={"accuracy_drop": points}, **request_)
    assert report.accuracy is not None
    assert report.accuracy.before == 1.0
    assert report.target_achieved == pytest.approx(100 * (1.0 - report.accuracy.after))
    assert 0.0 <= report.target_achieved <= points
    probes = {probe.sparsity: probe.figure for probe in report.target_probes}
    answer = max(s for s, drop in probes.items() if drop == pytest.approx(report.target_achieved))
    assert min(drop for s, drop in probes.items() if s > answer) > points


def test_who_asks_for_a_plan_does_not_wait_for_healing(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("a plan heals nothing")

    monkeypatch.setattr(FineTuning, "heal", unwanted)
    target = {"accuracy_drop": 15.0}
    healing = plan(source, recipe(recovery="fine_tune", target=target), Context(tmp_path))
    bare = plan(source, recipe(target=target), Context(tmp_path))
    assert [text for text in healing.warnings if "before healing" in text]
    assert not [text for text in bare.warnings if "before healing" in text]
    assert healing.sparsity is not None
    assert 0.0 < healing.sparsity < 1.0
    assert healing.sparsity == pytest.approx(bare.sparsity, abs=0.05)  # by a fifth of the rows, and by all


def test_more_points_allow_more_sparsity(source: Source, tmp_path: Path) -> None:
    found = [
        _prune(source, tmp_path / str(points), target={"accuracy_drop": points}).achieved
        for points in (1.0, 10.0, 50.0)
    ]
    assert found == sorted(found)
    assert found[0] < found[2]


@pytest.mark.parametrize(
    ("data", "words"),
    [(None, "needs a dataset"), ("bare.npz", "holds no `targets`"), ("values.npz", "mean squared error")],
)
def test_points_of_accuracy_need_labels(source: Source, tmp_path: Path, data: str | None, words: str) -> None:
    file = None if data is None else tmp_path / data
    with pytest.raises(NeedsLabelsError, match=words):
        _prune(Source(source.model, "m.onnx", file), tmp_path / "a", target={"accuracy_drop": 1.0})


def test_zeros_are_refused_for_latency_with_the_reason(source: Source, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipeError, match="zeros make no dense kernel faster"):
        _prune(source, tmp_path / "a", target={"latency": 0.5})


@pytest.fixture
def _time_is_size(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model takes a millisecond for every byte of its file."""
    sizes: list[int] = []
    written = base.Written.written

    @contextmanager
    def noted(unit: base.Written, plan: Plan) -> Iterator[Path]:
        with written(unit, plan) as path:
            sizes.append(path.stat().st_size)
            yield path

    def measured(*_runners: Any, batch: int, **_more: Any) -> LatencyReport:
        before, after = (
            LatencyFigures(median_ms=size, p90_ms=size, runs=5)
            for size in (source.model.stat().st_size, sizes[-1])
        )
        return LatencyReport(
            runtime="none", device="cpu", batch=batch, threads=1, before=before, after=after,
            speedup=1.0, remark="",
        )  # fmt: skip

    monkeypatch.setattr(base.Written, "written", noted)
    monkeypatch.setattr(latency, "measure_latency", measured)


@pytest.mark.usefixtures("_time_is_size")
def test_the_latency_is_searched_on_files_that_are_really_smaller(source: Source, tmp_path: Path) -> None:
    by_time = _prune(source, tmp_path / "a", target={"latency": 0.5}, **CHANNELS)
    by_size = _prune(source, tmp_path / "b", target={"size_bytes": 0.5}, **CHANNELS)
    assert by_time.after.sha256 == by_size.after.sha256
    assert len(by_time.target_probes) <= 12
    assert by_time.latency is not None
    measured = by_time.latency.after.median_ms / by_time.latency.before.median_ms
    assert by_time.target_achieved == measured
    assert any("measured on the finished file" in w for w in by_time.warnings) == (measured > 0.5)


def test_a_latency_beyond_reach_is_refused(source: Source, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipeError, match=r"the least .* of the original latency"):
        _prune(source, tmp_path / "a", target={"latency": 0.0}, **CHANNELS)
