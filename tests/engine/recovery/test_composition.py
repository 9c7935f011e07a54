"""Criteria that look at data and closed-form recoveries through the whole pipeline, composed every way."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import Report
from tests.engine.recovery.nets import mixed, pictures
from worker.engine import pipeline
from worker.engine.catalogue import catalogue
from worker.engine.context import Context

CRITERIA: list[dict[str, Any]] = [
    {"name": "wanda"},
    {"name": "wanda", "compare": "output"},
    {"name": "obs"},
    {"name": "obd"},
    {"name": "taylor"},
    {"name": "lookahead_act"},
    {"name": "lookahead_obd"},
]
GRANULARITIES: list[dict[str, Any]] = [
    {"name": "element"},
    {"name": "n:m", "n": 1, "m": 2},
    {"name": "row"},
    {"name": "channel"},
]
PRESETS = [
    "wanda",
    "sparsegpt",
    "obd",
    "lookahead_obd",
    "lookahead_act",
    "lookahead_reconstructed",
    "taylor_channels",
]


def _prune(folder: Path, *, labels: bool = False, **request: Any) -> tuple[Path, Report]:
    x = pictures(60)
    arrays: dict[str, Any] = {"x": x, "targets": np.arange(60) % 5} if labels else {"x": x}
    np.savez(folder / "rows.npz", **arrays)
    path = mixed(folder / "net.onnx")
    asked = {"target": {"sparsity": 0.5}, **request}
    recipe = resolve(RecipeRequest.model_validate(asked), catalogue().preset_axes())
    source = pipeline.Source(path, path.name, folder / "rows.npz")
    return pipeline.prune(source, recipe, folder, Context(folder))


def _passed(report: Report) -> None:
    assert all(check.passed for check in report.checks), [c for c in report.checks if not c.passed]


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda item: "-".join(item.values()))
@pytest.mark.parametrize("granularity", GRANULARITIES, ids=lambda item: str(item["name"]))
def test_criteria_and_granularities(
    tmp_path: Path, criterion: dict[str, Any], granularity: dict[str, Any]
) -> None:
    target: dict[str, Any] = {} if granularity["name"] == "n:m" else {"target": {"sparsity": 0.5}}
    _, report = _prune(
        tmp_path,
        criterion=criterion,
        granularity=granularity,
        recovery={"name": "none"},
        exclude=["deep*", "stem*"] if granularity["name"] == "n:m" else [],
        **target,
    )
    _passed(report)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(tmp_path: Path, preset: str) -> None:
    _, report = _prune(tmp_path, preset=preset)
    _passed(report)


@pytest.mark.parametrize("criterion", ["obd", "taylor", "wanda", "obs", "lookahead_act", "lookahead_obd"])
def test_rescored(tmp_path: Path, criterion: str) -> None:
    _, report = _prune(
        tmp_path, labels=True, criterion={"name": criterion}, schedule={"name": "rescored", "steps": 3}
    )
    _passed(report)


@pytest.mark.parametrize("recovery", ["batch_norm", "bias_correction", "reconstruction"])
@pytest.mark.parametrize("apply", ["mask", "shrink"])
def test_channels_and_recoveries(tmp_path: Path, recovery: str, apply: str) -> None:
    saved, report = _prune(
        tmp_path,
        criterion={"name": "activation_variance"},
        granularity={"name": "channel"},
        apply={"name": apply},
        recovery={"name": recovery},
    )
    _passed(report)
    stem = next(t for t in onnx.load(saved).graph.initializer if t.name == "stem.weight")
    rows = numpy_helper.to_array(stem).reshape(stem.dims[0], -1)
    assert np.count_nonzero(np.abs(rows).sum(axis=1)) <= 4


def test_the_same_twice(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    one, _ = _prune(first, preset="sparsegpt")
    two, _ = _prune(second, preset="sparsegpt")
    assert one.read_bytes() == two.read_bytes()
