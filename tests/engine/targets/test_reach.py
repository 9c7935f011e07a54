"""Targets in other units than sparsity: met by the file itself, and by no less than whole units allow."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.report import Report
from tests.engine import chains
from tests.engine.masks import recipe
from tests.zoo import export
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError
from worker.engine.granularity.channel import Channel
from worker.engine.pipeline import Source, plan, prune
from worker.engine.verify import examine
from worker.engine.verify.size import measure_size

UNITS = ("parameters", "macs", "size_bytes")
CHANNELS = {"granularity": "channel", "apply": "shrink"}


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast the result runs is not what is tested here."""
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def _prune(path: Path, scratch: Path, **request: Any) -> tuple[Path, Report]:
    (scratch / "output").mkdir(parents=True)
    return prune(Source(path, path.name), recipe(**request), scratch / "output", Context(scratch))


def _vgg(tmp_path: Path) -> chains.Chain:
    return chains.vgg(tmp_path / "m.onnx", [3, 8, 12], [20, 10])


def _numbers(path: Path) -> list[np.ndarray]:
    stored = [onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer]
    return [array for array in stored if array.dtype.kind == "f"]


def _share(unit: str, before: Path, after: Path, shrunk: bool) -> float:
    """The figure counted on the files themselves; multiply-accumulates are left to the report."""
    if unit == "parameters":
        stored = sum(array.size for array in _numbers(before))
        return sum(a.size if shrunk else int(np.count_nonzero(a)) for a in _numbers(after)) / stored
    if shrunk:
        return after.stat().st_size / before.stat().st_size
    return measure_size(after).compressed_bytes / measure_size(before).compressed_bytes


@pytest.mark.parametrize("request_", [{}, {"allocation": "lamp"}, {"allocation": "erk"}, CHANNELS])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ratio", [0.55, 0.3])
def test_the_file_meets_the_target_and_the_next_larger_plan_does_not(
    tmp_path: Path, unit: str, ratio: float, request_: dict[str, Any]
) -> None:
    chain = _vgg(tmp_path)
    saved, report = _prune(chain.path, tmp_path / "a", target={unit: ratio}, **request_)
    assert (report.target_unit, report.target_requested) == (unit, ratio)
    assert report.target_achieved is not None
    assert report.target_achieved <= ratio
    assert not [warning for warning in report.warnings if "target" in warning]
    if unit != "macs":
        assert report.target_achieved == _share(unit, chain.path, saved, request_ == CHANNELS)
    met = min(probe.sparsity for probe in report.target_probes if probe.figure <= ratio)
    missed = max(probe.sparsity for probe in report.target_probes if probe.figure > ratio)
    assert missed < met
    # Whatever lies between the nearest miss and the answer is one of the two: no plan was passed over.
    counts = set()
    for between in np.linspace(missed, met, 7):
        inside = plan(
            Source(chain.path, "m.onnx"),
            recipe(target={"sparsity": float(between)}, **request_),
            Context(tmp_path / "a"),
        )
        counts.add(sum(layer.pruned or 0 for layer in inside.layers))
    assert len(counts) <= 2


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
@pytest.mark.parametrize("unit", UNITS)
def test_what_is_counted_on_the_plan_is_what_the_smaller_file_has(
    tmp_path: Path, unit: str, name: str
) -> None:
    """Residual adds, depthwise convolutions and concatenations: the count is made before any file is."""
    _, report = _prune(export(name), tmp_path, target={unit: 0.5}, **CHANNELS)
    assert report.target_achieved in {probe.figure for probe in report.target_probes}
    assert report.target_achieved is not None
    assert 0.4 < report.target_achieved <= 0.5


@pytest.mark.parametrize("unit", UNITS)
def test_less_left_means_more_pruned_and_equal_requests_equal_bytes(tmp_path: Path, unit: str) -> None:
    chain = _vgg(tmp_path)
    found = [
        _prune(chain.path, tmp_path / str(i), target={unit: ratio}, allocation="global_normalised")
        for i, ratio in enumerate([0.7, 0.5, 0.5, 0.3])
    ]
    sparsities = [report.achieved for _, report in found]
    assert sparsities == sorted(sparsities)
    assert sparsities[0] < sparsities[1] == sparsities[2] < sparsities[3]
    assert found[1][0].read_bytes() == found[2][0].read_bytes()


@pytest.mark.parametrize("unit", UNITS)
def test_out_of_reach_is_refused_with_the_nearest_figure(tmp_path: Path, unit: str) -> None:
    chain = _vgg(tmp_path)
    spared = {"exclude": ["conv*"], **CHANNELS}
    with pytest.raises(InvalidRecipeError, match=r"cannot be met.*the least .* is 0\.\d+ of the") as caught:
        _prune(chain.path, tmp_path / "a", target={unit: 0.01}, **spared)
    least = float(str(caught.value).split(" is ")[1].split()[0])
    with pytest.raises(InvalidRecipeError, match="cannot be met"):
        _prune(chain.path, tmp_path / "b", target={unit: least - 1e-5}, **spared)
    _, report = _prune(chain.path, tmp_path / "c", target={unit: least}, **spared)
    assert report.target_achieved == pytest.approx(least, abs=1e-6)


def test_floors_and_caps_bound_the_search(tmp_path: Path) -> None:
    chain = _vgg(tmp_path)
    bounded = {"allocation": {"name": "global", "floor": 0.3, "cap": 0.7}}
    _, report = _prune(chain.path, tmp_path / "a", target={"parameters": 0.5}, **bounded)
    assert report.target_achieved is not None
    assert 0.499 < report.target_achieved <= 0.5
    kept = [1 - layer.sparsity_after for layer in report.layers]
    assert min(kept) >= 0.3
    assert max(kept) <= 0.7
    with pytest.raises(InvalidRecipeError, match="cannot be met"):
        _prune(chain.path, tmp_path / "b", target={"parameters": 0.2}, **bounded)


@pytest.mark.parametrize("ratio", [0.48, 0.7])
@pytest.mark.parametrize("unit", UNITS)
def test_widths_stay_multiples_while_the_target_is_met(tmp_path: Path, unit: str, ratio: float) -> None:
    chain = chains.vgg(tmp_path / "m.onnx", [3, 24, 32], [40, 10])
    coarse = {"name": "channel", "round_to": 8, "minimum": 9}
    _, report = _prune(chain.path, tmp_path / "a", target={unit: ratio}, granularity=coarse, apply="shrink")
    assert report.target_achieved is not None
    assert report.target_achieved <= ratio
    widths = [layer.shape_after[0] for layer in report.layers[:-1] if layer.shape_after]
    assert widths
    assert all(width % 8 == 0 and width >= 16 for width in widths)


def test_layers_with_a_share_of_their_own_keep_it(tmp_path: Path) -> None:
    chain = _vgg(tmp_path)
    own = {"fc0": {"sparsity": 0.25}}
    _, report = _prune(chain.path, tmp_path / "a", target={"parameters": 0.6}, layers=own)
    assert report.target_achieved is not None
    assert 0.599 < report.target_achieved <= 0.6
    assert next(x for x in report.layers if x.name == "fc0").sparsity_after == pytest.approx(0.25, abs=1e-4)


def test_zeros_that_were_there_count_for_the_target(tmp_path: Path) -> None:
    chain = _vgg(tmp_path)
    once, _ = _prune(chain.path, tmp_path / "a", target={"parameters": 0.5})
    _, again = _prune(once, tmp_path / "b", target={"parameters": 0.3})
    assert again.target_achieved is not None
    assert 0.299 < again.target_achieved <= 0.3


def test_scores_that_follow_the_cuts_are_searched_too(tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [12, 20, 15, 7])
    schedule = {"name": "rescored", "steps": 3}
    _, report = _prune(chain.path, tmp_path / "a", target={"parameters": 0.4}, schedule=schedule)
    assert report.target_achieved is not None
    assert 0.39 < report.target_achieved <= 0.4


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 40), st.integers(0, 200), st.integers(0, 200))
def test_widths_are_multiples_within_bounds_and_found_again(
    units: int, multiple: int, minimum: int, count: int, other: int
) -> None:
    channel = Channel(round_to=multiple, minimum=minimum)
    width = channel.width(units, min(count, units))
    assert width == units or width % multiple == 0 or units < multiple
    assert min(units, minimum) <= width <= units
    assert channel.width(units, width) == width
    assert (count <= other) <= (width <= channel.width(units, min(other, units)))
