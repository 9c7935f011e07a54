"""Several targets in one job: every point is what its target gives alone, and the right file comes out."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from api_schemas.recipe import RecipeRequest, Target
from api_schemas.report import Report, SweepPoint
from tests.engine import chains
from tests.engine.masks import recipe
from worker.engine import formats, pipeline, sweep
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, NeedsLabelsError
from worker.engine.formats.base import LoadOptions
from worker.engine.pipeline import Source
from worker.engine.report.html import render
from worker.engine.sweep import on_front
from worker.engine.verify import examine

TARGETS = [{"sparsity": 0.3}, {"sparsity": 0.95}, {"sparsity": 0.6}]


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A small network with 300 rows that it answers all rightly."""
    chain = chains.mlp(tmp_path / "m.onnx", [12, 24, 16, 5])
    rows = np.random.default_rng(0).standard_normal((300, 12)).astype(np.float32)
    scores = formats.runner(chain.path, LoadOptions(scratch=tmp_path), 1).run({"x": rows})[0]
    np.savez(tmp_path / "data.npz", x=rows, targets=scores.argmax(axis=1))
    return Source(chain.path, "m.onnx", tmp_path / "data.npz")


def _swept(source: Source, folder: Path, **request: Any) -> tuple[Path, Report]:
    (folder / "output").mkdir(parents=True)
    (folder / "scratch").mkdir()
    return sweep.prune(source, recipe(**request), folder / "output", Context(folder / "scratch"))


def test_every_point_is_the_file_that_its_target_gives_alone(source: Source, tmp_path: Path) -> None:
    saved, report = _swept(source, tmp_path / "sweep", sweep={"targets": TARGETS})
    for number, (point, target) in enumerate(zip(report.sweep, TARGETS, strict=True)):
        folder = tmp_path / f"alone-{number}"
        folder.mkdir()
        alone, its = pipeline.prune(source, recipe(target=target), folder, Context(folder))
        assert point.sha256 == hashlib.sha256(alone.read_bytes()).hexdigest() == its.after.sha256
        assert (point.sparsity, point.accuracy) == (its.achieved, its.summary.accuracy_after)
    assert [point.chosen for point in report.sweep] == [False, True, False]
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == report.sweep[1].sha256 == report.after.sha256
    assert report.recipe.sweep is not None and report.recipe.target is None
    assert report.summary.accuracy_metric == "top-1 accuracy"


def test_the_smallest_file_within_the_floor_is_handed_out(source: Source, tmp_path: Path) -> None:
    everything = _swept(source, tmp_path / "all", sweep={"targets": TARGETS})[1]
    drops = [100 * (1.0 - (point.accuracy or 0.0)) for point in everything.sweep]
    assert drops[0] < drops[2] < drops[1]
    asked = {"targets": TARGETS, "accuracy_drop": (drops[2] + drops[1]) / 2}
    saved, report = _swept(source, tmp_path / "some", sweep=asked)
    assert [point.chosen for point in report.sweep] == [False, False, True]
    assert hashlib.sha256(saved.read_bytes()).hexdigest() == everything.sweep[2].sha256
    strict = {"targets": [TARGETS[1], {"sparsity": 0.97}], "accuracy_drop": drops[0] / 2}
    with pytest.raises(InvalidRecipeError, match="keeps the accuracy within") as refused:
        _swept(source, tmp_path / "none", sweep=strict)
    assert "sparsity of 0.97 leaves" in str(refused.value)  # what was measured is not lost


def test_a_floor_without_labels_is_refused(source: Source, tmp_path: Path) -> None:
    bare = Source(source.model, source.filename)
    with pytest.raises(NeedsLabelsError):
        _swept(bare, tmp_path / "sweep", sweep={"targets": TARGETS, "accuracy_drop": 1.0})


def test_a_target_out_of_reach_is_a_point_with_its_reason(source: Source, tmp_path: Path) -> None:
    targets = [{"sparsity": 0.5}, {"size_bytes": 0.001}]
    report = _swept(source, tmp_path / "sweep", sweep={"targets": targets})[1]
    assert report.sweep[0].chosen and report.sweep[1].error is not None
    assert "cannot be met" in report.sweep[1].error and any("0.001" in said for said in report.warnings)
    page = render(report)
    assert "Sweep over targets" in page and "size_bytes 0.001" in page
    with pytest.raises(InvalidRecipeError, match="no target of the sweep"):
        _swept(source, tmp_path / "none", sweep={"targets": [targets[1], targets[1]]})


def test_the_page_draws_the_front(source: Source, tmp_path: Path) -> None:
    page = render(_swept(source, tmp_path / "sweep", sweep={"targets": TARGETS})[1])
    assert page.count('<circle class="dot') == 3 and 'class="dot chosen"' in page


def test_the_front_is_what_nothing_beats() -> None:
    def point(size: int, accuracy: float | None, *, lower: bool = False) -> SweepPoint:
        return SweepPoint(target=Target(sparsity=0.5), nonzero=size, accuracy=accuracy, lower_is_better=lower)

    points = [point(10, 0.9), point(20, 0.9), point(20, 0.95), point(5, 0.1), point(30, None)]
    assert [on_front(one, points) for one in points] == [True, False, True, True, False]
    errors = [point(10, 0.2, lower=True), point(20, 0.3, lower=True), point(20, 0.1, lower=True)]
    assert [on_front(one, errors) for one in errors] == [True, False, True]


def test_a_recipe_has_a_target_or_a_sweep() -> None:
    with pytest.raises(ValidationError, match="not both"):
        RecipeRequest.model_validate({"target": TARGETS[0], "sweep": {"targets": TARGETS}})
    with pytest.raises(ValidationError):
        RecipeRequest.model_validate({"sweep": {"targets": TARGETS[:1]}})
