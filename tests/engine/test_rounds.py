"""Rounds of cutting and healing: what each step sees, what holds at the end, and how an attempt goes on."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pytest

from api_schemas.events import ChildEvent, EventType
from api_schemas.report import Report
from tests.engine import chains
from tests.engine.masks import recipe
from worker.engine import formats, registry
from worker.engine.checkpoint import Checkpoints
from worker.engine.context import Context, silent
from worker.engine.formats.base import LoadOptions
from worker.engine.pipeline import Source, prune
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.verify import examine

ITERATIVE = {"name": "iterative", "rounds": 4}
CHANNELS = {"granularity": "channel", "apply": "shrink"}


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


@pytest.fixture
def growing() -> Iterator[type[Recovery]]:
    """A recovery for these tests: it makes every kept weight larger by a tenth, and counts what it saw."""

    @final
    class Growing(Recovery):
        """Grows what is left."""

        name: ClassVar[str] = "growing"
        seen: ClassVar[list[float]] = []
        fails_at: ClassVar[int] = 0

        def heal(self, pruned: Pruned, context: Context) -> None:
            if len(self.seen) + 1 == self.fails_at:
                raise KeyboardInterrupt
            zeros = total = 0
            for layer in pruned.graph.layers:
                weights = pruned.network.read(layer.view.value)
                zeros, total = zeros + int((weights == 0).sum()), total + weights.size
                mask = pruned.masks.get(layer.view.value)
                assert (weights == 0).sum() == (0 if mask is None else (~mask).sum())
                pruned.network.write(layer.view.value, (weights * 1.1).astype(weights.dtype))
            self.seen.append(zeros / total)

    yield Growing
    del registry._PARTS["recovery", "growing"]


def _prune(path: Path, folder: Path, context: Context | None = None, **request: Any) -> tuple[Path, Report]:
    (folder / "output").mkdir(parents=True)
    (folder / "scratch").mkdir()
    context = context or Context(folder / "scratch")
    return prune(Source(path, path.name), recipe(**request), folder / "output", context)


def _weights(path: Path, scratch: Path) -> dict[str, np.ndarray[Any, Any]]:
    network = formats.load(path, LoadOptions(scratch=scratch))
    return {value.name or "": network.read(value) for value in network.structure.graph.initializers.values()}


def test_every_round_cuts_deeper_and_is_healed(growing: Any, tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10])
    saved, report = _prune(
        chain.path, tmp_path / "run", schedule=ITERATIVE, recovery="growing", target={"sparsity": 0.9}
    )
    assert growing.seen == pytest.approx([1 - 0.1 ** (step / 4) for step in (1, 2, 3, 4)], abs=0.002)
    assert report.achieved == pytest.approx(0.9, abs=1e-3)
    before, after = _weights(chain.path, tmp_path), _weights(saved, tmp_path)
    for name, weights in before.items():
        kept = after[name] != 0
        if "weight" in name or weights.ndim == 2:
            np.testing.assert_allclose(after[name][kept], weights[kept] * 1.1**4, rtol=1e-5)
    names = {check.name for check in report.checks}
    assert "pruned weights" in names and "kept weights" not in names


def test_without_healing_rounds_end_where_cuts_do(tmp_path: Path) -> None:
    """Four rounds that heal nothing are the four cuts of `rescored`."""
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10])
    rounds = _prune(chain.path, tmp_path / "a", schedule=ITERATIVE, target={"sparsity": 0.9})[1]
    rescored = {"name": "rescored", "steps": 4}
    cuts = _prune(chain.path, tmp_path / "b", schedule=rescored, target={"sparsity": 0.9})[1]
    once = _prune(chain.path, tmp_path / "c", target={"sparsity": 0.9})[1]
    assert rounds.after.sha256 == cuts.after.sha256 != once.after.sha256


@pytest.mark.parametrize("schedule", ["one_shot", ITERATIVE])
@pytest.mark.parametrize("early", [False, True])
def test_channels_leave_after_the_last_round_and_prove_equal(
    growing: Any, tmp_path: Path, schedule: Any, early: bool
) -> None:
    growing.before_shrinking = early
    chain = chains.vgg(tmp_path / "m.onnx", [3, 16, 24], [20, 10])
    report = _prune(
        chain.path,
        tmp_path / "run",
        schedule=schedule,
        recovery="growing",
        target={"sparsity": 0.5},
        **CHANNELS,
    )[1]
    plain = _prune(chain.path, tmp_path / "plain", target={"sparsity": 0.5}, **CHANNELS)[1]
    assert report.after.parameters == plain.after.parameters
    proof = next(check for check in report.checks if check.name == "equals the masked model")
    assert proof.passed and "largest relative difference" in proof.detail
    rounds = 1 if schedule == "one_shot" else 4
    assert len(growing.seen) == rounds
    assert (growing.seen[-1] == 0.0) == (not early)  # trained after the zeros are gone, or before


def test_an_attempt_goes_on_after_the_rounds_that_are_done(growing: Any, tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10])
    asked: dict[str, Any] = {"schedule": ITERATIVE, "recovery": "growing", "target": {"sparsity": 0.9}}
    whole = _prune(chain.path, tmp_path / "whole", **asked)[1]
    growing.seen.clear()
    growing.fails_at = 3
    kept: list[ChildEvent] = []
    folder = tmp_path / "first"
    first = Context(folder / "scratch", checkpoints=Checkpoints(tmp_path / "kept", emit=kept.append))
    with pytest.raises(KeyboardInterrupt):
        _prune(chain.path, folder, first, **asked)
    assert [event.type for event in kept] == [EventType.CHECKPOINT] * 2
    growing.fails_at = 0
    growing.seen.clear()
    folder = tmp_path / "second"
    saved = tmp_path / "kept" / kept[-1].data["file"]
    second = Context(
        folder / "scratch", checkpoints=Checkpoints(tmp_path / "again", saved=saved, emit=silent)
    )
    again = _prune(chain.path, folder, second, **asked)[1]
    assert len(growing.seen) == 2
    assert again.after.sha256 == whole.after.sha256


def _labelled(chain: chains.Chain, tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).standard_normal((300, 20)).astype(np.float32)
    scores = formats.runner(chain.path, LoadOptions(scratch=tmp_path), 1).run({"x": rows})[0]
    np.savez(tmp_path / "data.npz", x=rows, targets=scores.argmax(axis=1))
    return tmp_path / "data.npz"


def test_a_floor_is_searched_with_the_healing_that_the_job_does(growing: Any, tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10])
    data = _labelled(chain, tmp_path)
    (tmp_path / "output").mkdir()
    asked = recipe(recovery="growing", target={"accuracy_drop": 5.0})
    report = prune(Source(chain.path, "m.onnx", data), asked, tmp_path / "output", Context(tmp_path))[1]
    tried = [probe for probe in report.target_probes if 0.0 < probe.sparsity < 1.0]
    assert len(growing.seen) == len(tried) + 1  # every try, and the file itself
    assert report.target_achieved is not None and report.target_achieved <= 5.0


def test_a_file_below_the_floor_is_not_handed_out(
    growing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the finished file do worse than when it was tried, less is pruned until it does not."""
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10])
    data = _labelled(chain, tmp_path)
    heal, worse = growing.heal, [5]

    def heal_worse(self: Any, pruned: Pruned, context: Context) -> None:
        heal(self, pruned, context)
        if context.emit is not silent and worse and worse.pop():
            last = pruned.graph.layers[-1].view.value
            pruned.network.write(last, -pruned.network.read(last))

    monkeypatch.setattr(growing, "heal", heal_worse)
    (tmp_path / "output").mkdir()
    asked = recipe(recovery="growing", target={"accuracy_drop": 5.0})
    loud = Context(tmp_path, emit=lambda _event: None)
    report = prune(Source(chain.path, "m.onnx", data), asked, tmp_path / "output", loud)[1]
    assert not worse
    assert report.target_achieved is not None and report.target_achieved <= 5.0
    assert any("less is pruned" in warning for warning in report.warnings)
    probes = [probe.sparsity for probe in report.target_probes if probe.figure <= 5.0]
    assert report.achieved < max(probes)
