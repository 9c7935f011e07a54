"""Recoveries in closed form against numpy and ONNX Runtime, which run the saved files."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.engine.recovery import nets
from tests.engine.recovery.nets import Healed, heal, mixed, pictures
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import load_dataset
from worker.engine.errors import NeedsDatasetError
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.build import build
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.batch_norm import BatchNormRecalibration
from worker.engine.recovery.bias_correction import BiasCorrection
from worker.engine.recovery.lesson import Lesson
from worker.engine.recovery.reconstruction import Reconstruction

Array = np.ndarray[Any, np.dtype[Any]]
ALL = [BatchNormRecalibration(), BiasCorrection(), Reconstruction()]
ROWS = 240


def _values(path: Path, names: list[str], x: Array) -> list[Array]:
    """Inner values of a file, by ONNX Runtime."""
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    found: list[Array] = session.run(None, {"x": x})
    return found


def _split(scratch: Path, x: Array) -> tuple[Array, Array]:
    """The rows that were learnt from and those held out."""
    network = formats.load(scratch / "healed.onnx", LoadOptions(scratch=scratch))
    parts = load_dataset(scratch / "rows.npz", network.inputs).split(0.25, 0)
    learnt, held_out = (np.concatenate([b.feeds["x"] for b in part.batches(64)]) for part in parts)
    assert len(learnt) + len(held_out) == len(x)
    return learnt, held_out


def _error(path: Path, other: Path, x: Array) -> float:
    (one,), (two,) = _values(path, ["y"], x), _values(other, ["y"], x)
    return float(np.square(one - two).mean())


@pytest.mark.parametrize("part", ALL, ids=lambda part: part.name)
def test_pruned_weights_stay_zero(tmp_path: Path, part: Recovery) -> None:
    healed = heal(mixed(tmp_path / "net.onnx"), tmp_path, part, pictures(ROWS))
    for value, keep in healed.masks.items():
        stored = healed.network.read(value)
        assert not stored[~keep].any()
        assert (stored[~keep].view(np.uint32) == 0).all()
        assert np.count_nonzero(stored) > 0


def _changed(healed: Healed) -> set[str]:
    return {name for name, array in healed.before.items() if not np.array_equal(array, healed.after[name])}


def test_reconstruction_changes_weights_and_biases_and_nothing_else(tmp_path: Path) -> None:
    healed = heal(mixed(tmp_path / "net.onnx"), tmp_path, Reconstruction(), pictures(ROWS))
    weights = {"stem.weight", "deep.weight", "grouped.weight", "hidden.weight", "head.weight"}
    assert weights <= _changed(healed) <= weights | {"deep.bias", "hidden.bias", "head.bias", "bn.bias"}
    assert _error(healed.path, tmp_path / "net.onnx", pictures(64, 9)) < 0.5 * _pruned_error(healed, tmp_path)


def _pruned_error(healed: Healed, scratch: Path) -> float:
    """Error of the network as it was pruned, on fresh rows."""
    model = onnx.load(scratch / "net.onnx")
    for item in model.graph.initializer:
        item.CopyFrom(onnx.numpy_helper.from_array(healed.before[item.name], item.name))
    onnx.save(model, scratch / "pruned.onnx")
    return _error(scratch / "pruned.onnx", scratch / "net.onnx", pictures(64, 9))


def test_reconstruction_of_the_last_layer_is_ridge_regression(tmp_path: Path) -> None:
    """Asymmetric and sequential: from what the healed network brings it to what the original makes, a free
    bias (times beta) beside the weights, one of the four dampings, for every output of its own."""
    path = mixed(tmp_path / "net.onnx")
    healed = heal(path, tmp_path, Reconstruction(), pictures(ROWS))
    learnt, _ = _split(tmp_path, pictures(ROWS))
    (brought,), (wanted,) = _values(healed.path, ["l"], learnt), _values(path, ["y"], learnt)
    keep = next(m for v, m in healed.masks.items() if v.name == "head.weight")
    for row in range(5):
        found = np.append(healed.after["head.weight"][row, keep[row]], 0.5 * healed.after["head.bias"][row])
        now = healed.before["head.weight"][row, keep[row]]
        solutions = [_ridge(brought, keep[row], wanted[:, row], now, one) for one in (1e-3, 1e-2, 1e-1, 1.0)]
        columns = np.append(brought[:, keep[row]], np.ones((len(brought), 1)), axis=1)
        # By what they make, for single precision tells collinear weights apart no better.
        assert min(np.abs(columns @ (found - solution)).max() for solution in solutions) < 1e-5


def _ridge(x: Array, keep: Array, y: Array, now: Array, relative: float) -> Array:
    centred = x.astype(np.float64) - x.mean(axis=0)
    damping = relative * np.square(centred).sum() / x.shape[1]
    left = np.vstack([centred[:, keep], np.sqrt(damping) * np.eye(keep.sum())])
    right = np.concatenate([y - y.mean(), np.sqrt(damping) * now])
    weight = np.linalg.lstsq(left, right, rcond=None)[0]
    return np.append(weight, y.mean() - x[:, keep].mean(axis=0) @ weight)


@pytest.mark.parametrize("part", [BiasCorrection(), Reconstruction()], ids=lambda part: part.name)
def test_an_unpruned_network_stays_as_it_is(tmp_path: Path, part: Recovery) -> None:
    healed = heal(mixed(tmp_path / "net.onnx"), tmp_path, part, pictures(ROWS), sparsity=0.0)
    for name in _changed(healed):  # rounding may move a bias, and nothing else
        np.testing.assert_allclose(healed.after[name], healed.before[name], atol=1e-5)


def test_statistics_are_those_of_the_rows(tmp_path: Path) -> None:
    x = pictures(ROWS)
    healed = heal(_calibrated(mixed(tmp_path / "net.onnx"), x), tmp_path, BatchNormRecalibration(), x)
    assert _changed(healed) == {"bn.mean", "bn.var"}
    learnt, _ = _split(tmp_path, x)
    (read,) = _values(healed.path, ["a"], learnt)
    np.testing.assert_allclose(healed.after["bn.mean"], read.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(healed.after["bn.var"], read.var(axis=(0, 2, 3)), rtol=1e-4)


def _calibrated(path: Path, x: Array) -> Path:
    """The file with the statistics that training would have left."""
    (read,) = _values(path, ["a"], x)
    model = onnx.load(path)
    for item in model.graph.initializer:
        if item.name in ("bn.mean", "bn.var"):
            found = read.mean(axis=(0, 2, 3)) if item.name == "bn.mean" else read.var(axis=(0, 2, 3))
            item.CopyFrom(onnx.numpy_helper.from_array(found, item.name))
    onnx.save(model, path)
    return path


def test_means_are_those_of_the_original(tmp_path: Path) -> None:
    """Where a bias was changed, the channel's mean over the rows is the original's, at the layer's output."""
    x = pictures(ROWS) + np.float32(2.0)
    path = mixed(tmp_path / "net.onnx")
    healed = heal(path, tmp_path, BiasCorrection(), x, sparsity=0.3)
    learnt, _ = _split(tmp_path, x)
    places = {"bn.bias": "b", "deep.bias": "d", "hidden.bias": "k", "head.bias": "y"}
    changed = _changed(healed)
    assert changed
    assert changed <= set(places)
    for name in changed:
        (now,), (then,) = _values(healed.path, [places[name]], learnt), _values(path, [places[name]], learnt)
        moved = healed.after[name] != healed.before[name]
        axes = tuple(axis for axis in range(now.ndim) if axis != 1)
        np.testing.assert_allclose(now.mean(axis=axes)[moved], then.mean(axis=axes)[moved], atol=1e-4)
    assert any("grouped.weight" in said or "grouped" in said for said in healed.warnings)


@pytest.mark.parametrize("part", [BiasCorrection(), Reconstruction()], ids=lambda part: part.name)
def test_half_precision_stays_as_it_is(tmp_path: Path, part: Recovery) -> None:
    healed = heal(mixed(tmp_path / "net.onnx", np.float16), tmp_path, part, pictures(ROWS))
    assert not _changed(healed)
    assert any("left" in said for said in healed.warnings)


@pytest.mark.parametrize("part", ALL, ids=lambda part: part.name)
def test_without_rows(tmp_path: Path, part: Recovery) -> None:
    network = formats.load(mixed(tmp_path / "net.onnx"), LoadOptions(scratch=tmp_path))
    with pytest.raises(NeedsDatasetError):
        part.heal(Pruned(network, build(network), network), Context(tmp_path))


def test_without_batch_norm(tmp_path: Path) -> None:
    arrays = {"weight": np.eye(4, dtype=np.float32)}
    node = onnx.helper.make_node("MatMul", ["x", "weight"], ["y"])
    path = nets.save(tmp_path / "net.onnx", [node], arrays, [4], 4)
    healed = heal(path, tmp_path, BatchNormRecalibration(), np.ones((8, 4), np.float32))
    assert not _changed(healed)
    assert any("no batch norm" in said for said in healed.warnings)


def test_a_change_for_the_worse_is_taken_back(tmp_path: Path) -> None:
    path = mixed(tmp_path / "net.onnx")
    np.savez(tmp_path / "rows.npz", x=pictures(40))
    network, original = (formats.load(path, LoadOptions(scratch=tmp_path)) for _ in range(2))
    data = load_dataset(tmp_path / "rows.npz", network.inputs)
    lesson = Lesson.begin(Pruned(network, build(network), original, data=data), 40, Context(tmp_path))
    weight = network.structure.graph.initializers["head.weight"]
    stored = np.array(network.read(weight))
    assert not lesson.attempt(lambda: lesson.write(weight, -stored))
    np.testing.assert_array_equal(network.read(weight), stored)
    assert lesson.distance() == 0.0
    assert lesson.attempt(lambda: lesson.write(weight, stored.copy()))
