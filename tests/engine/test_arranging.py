"""Reordered channels from end to end: the function stays, every pattern keeps no less, the checks say so."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from api_schemas.report import CheckResult, Report
from tests.engine import chains
from tests.engine.masks import recipe
from worker.engine import arranging, formats
from worker.engine.case import Case, Rows
from worker.engine.context import Context
from worker.engine.errors import BrokenPromiseError
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.build import constants_in
from worker.engine.pipeline import Source, prune
from worker.engine.planning import analyse, resolve_parts
from worker.engine.rounds import carry_out
from worker.engine.types import Goal
from worker.engine.verify import examine

PERMUTED = {"name": "n:m", "permute": 50}


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def _prune(path: Path, folder: Path, **request: Any) -> tuple[Path, Report]:
    (folder / "output").mkdir(parents=True)
    (folder / "scratch").mkdir()
    asked = recipe(**{"criterion": "magnitude", "granularity": PERMUTED, **request})
    return prune(Source(path, path.name), asked, folder / "output", Context(folder / "scratch"))


def _magnitudes(path: Path, scratch: Path) -> dict[str, float]:
    network = formats.load(path, LoadOptions(scratch=scratch))
    sums = {v.name or "": np.abs(network.read(v)) for v in constants_in(network.structure)}
    return {name: float(array.sum(dtype=np.float64)) for name, array in sums.items() if array.ndim > 1}


def _run(path: Path, shape: tuple[int, ...]) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def _case(path: Path, scratch: Path) -> Case:
    asked, context = recipe(criterion="magnitude", granularity=PERMUTED), Context(scratch)
    network = formats.load(path, LoadOptions(scratch=scratch))
    graph = analyse(network, {}, asked, context)
    return Case(path, {}, Rows(), network, graph, resolve_parts(asked), asked, context)


def _vgg(folder: Path) -> Path:
    return chains.vgg(folder / "m.onnx", [4, 16, 32], [24, 8], size=4).path


@pytest.mark.parametrize("criterion", ["magnitude", "lookahead"])
def test_more_is_kept_and_every_check_holds(tmp_path: Path, criterion: str) -> None:
    path = _vgg(tmp_path)
    plain = _prune(path, tmp_path / "plain", criterion=criterion, granularity="n:m")
    better = _prune(path, tmp_path / "better", criterion=criterion)
    checks = {check.name: check for check in better[1].checks}
    assert all(check.passed for check in checks.values())
    assert "before any weight was pruned" in checks["reordered channels"].detail
    assert "by the new order of channels" in checks["kept weights"].detail
    assert better[1].achieved == plain[1].achieved
    noted = [layer.name for layer in better[1].layers if any("reordered" in note for note in layer.notes)]
    assert noted == ["conv1", "fc1"]  # stripes of fc0 lie within channels, behind Flatten
    assert not any("reordered" in note for layer in plain[1].layers for note in layer.notes)
    if criterion == "magnitude":
        kept = [sum(_magnitudes(run[0], tmp_path).values()) for run in (plain, better)]
        assert kept[1] > kept[0]


def test_the_same_recipe_gives_the_same_bytes(tmp_path: Path) -> None:
    path = _vgg(tmp_path)
    runs = [_prune(path, tmp_path / name) for name in ("a", "b")]
    assert runs[0][1].after.sha256 == runs[1][1].after.sha256


def test_the_reordered_network_is_the_function_that_it_was(tmp_path: Path) -> None:
    """The model that the rounds go on with, run by itself beside the upload."""
    case = _case(_vgg(tmp_path), tmp_path)
    done = arranging.arranged(case, case.network, case.graph)
    assert done.orders and done.case.model != case.model
    first, second = _run(case.model, (3, 4, 4, 4)), _run(done.case.model, (3, 4, 4, 4))
    np.testing.assert_allclose(second, first, rtol=0, atol=1e-5 * np.abs(first).max())


def test_slopes_are_those_of_the_new_order(tmp_path: Path) -> None:
    """Batch norm's factors stand in the analysis: it is made again, or lookahead would score by the old."""
    case = _case(_vgg(tmp_path), tmp_path)
    done = arranging.arranged(case, case.network, case.graph)
    again = analyse(case.network, {}, case.recipe, case.context)
    slopes = [
        [term.slope for channels in graph.maps.values() for term in getattr(channels, "terms", ())]
        for graph in (done.graph, again, case.graph)
    ]
    pairs = [list(zip(slopes[0], other, strict=True)) for other in slopes[1:]]
    same = [all(np.array_equal(a, b) for a, b in pair if a is not None and b is not None) for pair in pairs]
    assert same == [True, False]


def test_where_the_runtime_disagrees_all_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = CheckResult(name="reordered channels", passed=False, detail="it differs")
    monkeypatch.setattr(arranging, "prove_same", lambda *_: failed)
    path = _vgg(tmp_path)
    plain = _prune(path, tmp_path / "plain", granularity="n:m")
    reverted = _prune(path, tmp_path / "reverted")
    assert reverted[1].after.sha256 == plain[1].after.sha256
    assert reverted[1].warnings == ["channels stay in their order: it differs"]
    assert all(check.name != "reordered channels" for check in reverted[1].checks)


def test_where_no_order_is_better_the_report_says_so(tmp_path: Path) -> None:
    """Six channels make no stripes of four."""
    path = chains.mlp(tmp_path / "m.onnx", [20, 6, 4]).path
    plain = _prune(path, tmp_path / "plain", granularity="n:m")
    same = _prune(path, tmp_path / "same")
    assert same[1].after.sha256 == plain[1].after.sha256
    assert same[1].warnings == [
        "channels stay in their order: none was found in which the patterns keep more"
    ]


def test_weights_healed_afterwards_are_held_to_the_new_order(tmp_path: Path) -> None:
    """Reconstruction compares activations with those of the upload: both must be in the same order."""
    chain = chains.mlp(tmp_path / "m.onnx", [32, 32, 32, 8])
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(0).standard_normal((400, 32)).astype(np.float32))
    cosines = {}
    for recovery in ("none", "reconstruction"):
        (folder := tmp_path / recovery).mkdir()
        asked = recipe(criterion="magnitude", granularity=PERMUTED, recovery=recovery)
        source = Source(chain.path, "m.onnx", tmp_path / "rows.npz")
        report = prune(source, asked, folder, Context(folder))[1]
        assert {check.passed for check in report.checks} == {True}
        assert report.agreement is not None
        cosines[recovery] = report.agreement.outputs[0].cosine or 0.0
    assert cosines["reconstruction"] > cosines["none"]


def test_a_file_in_another_order_than_was_said_breaks_its_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(case: Any, network: Any, graph: Any, goal: Goal) -> Any:
        carried = carry_out(case, network, graph, goal)
        number, ((axis, order), *more) = next(iter(carried.orders.items()))
        steps = ((axis, np.roll(order, 1)), *more)
        return replace(carried, orders={**carried.orders, number: steps})

    monkeypatch.setattr("worker.engine.pipeline.carry_out", wrong)
    with pytest.raises(BrokenPromiseError, match=r"kept weights|other tensors"):
        _prune(_vgg(tmp_path), tmp_path / "run")


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "models"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not here")
@pytest.mark.parametrize("name", ["resnet_cifar10_3b2.onnx", "vit_cifar10_ibp.onnx"])
def test_real_networks_keep_more_in_every_noted_group(tmp_path: Path, name: str) -> None:
    report = _prune(SHARED / name, tmp_path / "run")[1]
    assert any(check.name == "reordered channels" and check.passed for check in report.checks)
    notes = [note for layer in report.layers for note in layer.notes if "reordered" in note]
    assert len(notes) >= 3
