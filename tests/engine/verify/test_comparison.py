"""One pass over the data for agreement and accuracy, with plain functions and with ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest

from api_schemas.models import TensorInfo
from api_schemas.report import DataSource
from tests.engine.data.pictures import png, zipped
from tests.engine.verify.runners import FunctionRunner, linear_model, saved
from worker.engine import formats
from worker.engine.data import Batch, load_dataset, random_batches
from worker.engine.errors import NeedsLabelsError
from worker.engine.formats.base import LoadOptions
from worker.engine.verify import compare, measure_latency

rng = np.random.default_rng(0)


def batches(values: np.ndarray, targets: np.ndarray | None, size: int = 4) -> list[Batch]:
    """Values and targets in batches."""
    slices = [slice(start, start + size) for start in range(0, len(values), size)]
    return [
        Batch({"x": values[rows]}, len(values[rows]), None if targets is None else targets[rows])
        for rows in slices
    ]


def test_each_file_runs_once_per_batch() -> None:
    before, after = FunctionRunner(lambda x: [x]), FunctionRunner(lambda x: [x + 1])
    done: list[int] = []
    found = compare(
        before,
        after,
        batches(rng.normal(size=(10, 3)), rng.integers(0, 3, 10)),
        DataSource.DATASET,
        progress=done.append,
    )
    assert (before.runs, after.runs) == (3, 3)
    assert done == [4, 8, 10]
    assert found.agreement.rows == 10
    assert found.agreement.outputs[0].max_abs_difference == pytest.approx(1)
    assert found.accuracy is not None
    assert found.accuracy.before == found.accuracy.after
    assert found.accuracy_reason is None


def test_without_targets_the_reason_is_given() -> None:
    runner = FunctionRunner(lambda x: [x])
    found = compare(runner, runner, batches(np.ones((4, 3)), None), DataSource.RANDOM, seed=3)
    assert found.accuracy is None
    assert found.accuracy_reason == "the data holds no `targets`"
    assert found.agreement.seed == 3


def test_outputs_that_are_not_finite_give_no_accuracy_and_say_so() -> None:
    before, after = FunctionRunner(lambda x: [x]), FunctionRunner(lambda x: [x * np.nan])
    found = compare(before, after, batches(np.ones((4, 3)), np.full((4, 3), 0.5)), DataSource.DATASET)
    assert found.accuracy is None
    assert "not finite" in (found.accuracy_reason or "")


def test_labels_that_fit_nothing_end_the_comparison() -> None:
    runner = FunctionRunner(lambda x: [x])
    with pytest.raises(NeedsLabelsError):
        compare(runner, runner, batches(np.ones((4, 3)), np.full((4, 9), 2)), DataSource.DATASET)


def test_a_model_of_single_rows_without_a_batch_axis_is_measured() -> None:
    values, labels = rng.normal(size=(9, 4)), rng.integers(0, 4, 9)
    runner = FunctionRunner(lambda x: [x])
    rows = [Batch({"x": values[index]}, 1, labels[index : index + 1]) for index in range(9)]
    found = compare(runner, runner, rows, DataSource.DATASET)
    assert found.accuracy is not None
    assert found.accuracy.before == pytest.approx(np.mean(values.argmax(axis=1) == labels))


def test_onnx_files_with_uploaded_data(tmp_path: Path) -> None:
    weight = rng.normal(size=(4, 3)).astype(np.float32)
    sparse = weight * (np.abs(weight) > 0.7)
    values = rng.normal(size=(50, 4)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=values, targets=rng.integers(0, 3, 50))
    runners = [
        formats.runner(saved(tmp_path / f"{name}.onnx", linear_model(item)), LoadOptions(), 1)
        for name, item in (("before", weight), ("after", sparse))
    ]
    dataset = load_dataset(tmp_path / "data.npz", [TensorInfo(name="x", dtype="float32", shape=["N", 4])])
    found = compare(runners[0], runners[1], dataset.batches(16), DataSource.DATASET)
    outputs = [2 * values.astype(np.float64) @ item + 1 for item in (weight, sparse)]
    labels = np.load(tmp_path / "data.npz")["targets"]
    assert found.agreement.rows == 50
    assert found.agreement.outputs[0].max_abs_difference == pytest.approx(
        np.abs(outputs[0] - outputs[1]).max(), rel=1e-5
    )
    assert found.accuracy is not None
    assert found.accuracy.before == pytest.approx(np.mean(outputs[0].argmax(1) == labels))
    assert found.accuracy.after == pytest.approx(np.mean(outputs[1].argmax(1) == labels))


def test_masks_beside_uploaded_images(tmp_path: Path) -> None:
    pixels = rng.integers(0, 256, (6, 8, 8, 3), np.uint8)
    masks = (pixels[..., 0] > 127).astype(np.uint8)
    masks[:, 0] = 255
    files = {f"images/{row}.png": png(pixels[row]) for row in range(6)}
    files |= {f"masks/{row}.png": png(masks[row]) for row in range(6)}
    inputs = [TensorInfo(name="x", dtype="float32", shape=["N", 3, 8, 8])]
    dataset = load_dataset(zipped(tmp_path / "d", files), inputs)
    knows = FunctionRunner(lambda x: [np.stack([0.5 - x[:, 0], x[:, 0] - 0.5], axis=1)])
    blind = FunctionRunner(lambda x: [np.stack([np.ones_like(x[:, 0]), 0 * x[:, 0]], axis=1)])
    found = compare(knows, blind, dataset.batches(4), DataSource.DATASET).accuracy
    assert found is not None
    zeros = np.mean(masks[:, 1:] == 0)
    assert (found.metric, found.before, found.after) == ("pixel accuracy", 1.0, pytest.approx(zeros))
    (overlap,) = found.further
    assert (overlap.metric, overlap.before, overlap.after) == ("mean IoU", 1.0, pytest.approx(zeros / 2))


def test_pairs_of_uploaded_images(tmp_path: Path) -> None:
    small = rng.integers(0, 100, (5, 4, 4), np.uint8)
    files = {f"inputs/{row}.png": png(small[row]) for row in range(5)}
    files |= {f"targets/{row}.png": png(small[row].repeat(3, 0).repeat(3, 1)) for row in range(5)}
    inputs = [TensorInfo(name="x", dtype="float32", shape=["N", 1, 4, 4])]
    dataset = load_dataset(zipped(tmp_path / "d", files), inputs)
    near = FunctionRunner(lambda x: [x.repeat(3, 2).repeat(3, 3) + 0.01])
    far = FunctionRunner(lambda x: [x.repeat(3, 2).repeat(3, 3) + 0.1])
    found = compare(near, far, dataset.batches(2), DataSource.DATASET).accuracy
    assert found is not None
    assert (found.metric, found.lower_is_better) == ("mean squared error", True)
    assert [found.before, found.after] == pytest.approx([1e-4, 1e-2], rel=1e-4)
    (ratio,) = found.further
    assert ratio.metric == "PSNR"
    assert [ratio.before, ratio.after] == pytest.approx([40, 20], rel=1e-4)


def test_onnx_files_on_random_inputs_and_timed(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", linear_model(rng.normal(size=(4, 3))))
    runner = formats.runner(path, LoadOptions(), 1)
    inputs = [TensorInfo(name="x", dtype="float32", shape=["N", 4])]
    found = compare(runner, runner, random_batches(inputs, 10, 4, seed=1), DataSource.RANDOM, seed=1)
    assert found.agreement.rows == 10
    assert found.agreement.remark == "Every output is bit-identical."
    batch = next(random_batches(inputs, 1, 1))
    report = measure_latency(runner, runner, batch.feeds, batch=batch.rows, budget_seconds=0.05)
    assert report.before.runs == report.after.runs
    assert report.before.median_ms > 0
