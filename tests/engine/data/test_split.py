"""Training and validation rows: disjoint, complete, repeated by a seed, alike in labels, as the file says."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from api_schemas.models import TensorInfo
from worker.engine.data import Dataset, load_dataset
from worker.engine.data.splitting import class_labels, draw_split
from worker.engine.errors import InvalidDatasetError, InvalidRecipeError, TooFewRowsError

X = TensorInfo(name="x", dtype="float32", shape=["n", 2])


def opened(folder: Path, rows: int = 20, info: TensorInfo = X, **arrays: np.ndarray) -> Dataset:
    values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    np.savez(folder / "d.npz", **{"x": values, **arrays})
    return load_dataset(folder / "d.npz", [info])


def rows_in(dataset: Dataset) -> list[int]:
    """The rows of the file that a dataset made by `opened` holds."""
    return [int(row) // 2 for batch in dataset.batches(7) for row in batch.feeds["x"][:, 0]]


@settings(max_examples=80, deadline=None)
@given(
    rows=st.integers(2, 200),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**32),
    classes=st.none() | st.integers(1, 12),
    data=st.data(),
)
def test_a_split_is_a_partition_that_a_seed_repeats(
    rows: int, fraction: float, seed: int, classes: int | None, data: st.DataObject
) -> None:
    labels = None
    if classes is not None:
        weights = data.draw(st.lists(st.integers(1, 30), min_size=classes, max_size=classes))
        labels = np.random.default_rng(seed).choice(classes, rows, p=np.array(weights) / sum(weights))
    training, validation = draw_split(rows, labels, fraction, seed, 1)
    assert sorted([*training, *validation]) == list(range(rows))
    assert len(validation) == min(max(round(rows * fraction), 1), rows - 1)
    again = draw_split(rows, labels, fraction, seed, 1)
    np.testing.assert_array_equal(validation, again[1])
    if labels is not None and len(set(labels)) <= rows // 2:
        counts, held = np.bincount(labels), np.bincount(labels[validation], minlength=labels.max() + 1)
        assert (np.abs(held - counts * len(validation) / rows) < 2).all() or len(validation) > rows - len(
            counts
        )


def test_every_class_is_on_both_sides_where_it_can_be() -> None:
    labels = np.repeat([0, 1, 2], [90, 6, 4])
    training, validation = draw_split(100, labels, 0.25, 0, 1)
    np.testing.assert_array_equal(np.bincount(labels[validation]), [22, 2, 1])
    assert set(labels[training]) == {0, 1, 2}


def test_another_seed_draws_other_rows() -> None:
    drawn = {tuple(draw_split(50, None, 0.2, seed, 1)[1]) for seed in range(5)}
    assert len(drawn) == 5


def test_labels_are_told_from_values() -> None:
    np.testing.assert_array_equal(class_labels(np.eye(3)[[2, 0, 1]]), [2, 0, 1])
    np.testing.assert_array_equal(class_labels(np.array([[1.0], [4.0]])), [1, 4])
    assert class_labels(np.array([0.5, 1.0])) is None
    assert class_labels(np.ones((4, 3))) is None


def test_the_sides_of_a_dataset_hold_its_rows(tmp_path: Path) -> None:
    training, validation = opened(tmp_path, targets=np.arange(20) % 2).split(0.3, 1)
    assert (training.rows, validation.rows) == (14, 6)
    assert sorted(rows_in(training) + rows_in(validation)) == list(range(20))
    for side in (training, validation):
        for batch in side.batches(4, seed=0):
            assert batch.targets is not None
            np.testing.assert_array_equal(batch.targets, batch.feeds["x"][:, 0] // 2 % 2)
    smaller, _ = training.split(0.5, 2)
    assert set(rows_in(smaller)) < set(rows_in(training))


@pytest.mark.parametrize("marks", [np.arange(20) >= 15, (np.arange(20) >= 15).astype(np.uint8)])
def test_an_array_says_which_rows_are_for_validation(tmp_path: Path, marks: np.ndarray) -> None:
    dataset = opened(tmp_path, split=marks)
    training, validation = dataset.split(0.5, 0)
    assert (rows_in(training), rows_in(validation)) == (list(range(15)), list(range(15, 20)))
    assert dataset.unused == ()


def test_rows_marked_for_neither_are_left_out(tmp_path: Path) -> None:
    dataset = opened(tmp_path, split=np.array([0] * 10 + [1] * 4 + [2] * 6))
    assert rows_in(dataset) == list(range(14))
    assert [rows_in(side) for side in dataset.split()] == [list(range(10)), list(range(10, 14))]


def test_marks_without_validation_leave_the_draw_free(tmp_path: Path) -> None:
    training, validation = opened(tmp_path, split=np.array([0] * 10 + [2] * 10)).split(0.2, 0)
    assert (training.rows, validation.rows) == (8, 2)
    assert sorted(rows_in(training) + rows_in(validation)) == list(range(10))


def test_marks_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDatasetError, match="0 for training, 1 for validation, 2 for neither"):
        opened(tmp_path, split=np.arange(20))


def test_an_input_may_be_called_split(tmp_path: Path) -> None:
    info = TensorInfo(name="split", dtype="int64", shape=["n"])
    np.savez(tmp_path / "d.npz", split=np.arange(5))
    dataset = load_dataset(tmp_path / "d.npz", [info])
    np.testing.assert_array_equal(next(dataset.batches(5)).feeds["split"], np.arange(5))


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_validation_arrays_are_the_validation_rows(tmp_path: Path, kind: str) -> None:
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    labels = np.arange(20)
    content = {
        "x": values[:16],
        "targets": labels[:16],
        "validation/x": values[16:],
        "validation/targets": labels[16:],
    }
    if kind == "npz":
        np.savez(tmp_path / "d.npz", **content)
    else:
        save_file({name: np.ascontiguousarray(array) for name, array in content.items()}, tmp_path / "d.npz")
    dataset = load_dataset(tmp_path / "d.npz", [X])
    training, validation = dataset.split()
    assert (rows_in(training), rows_in(validation)) == (list(range(16)), [16, 17, 18, 19])
    batch = next(dataset.batches(20, seed=3))
    assert batch.targets is not None
    np.testing.assert_array_equal(batch.targets, batch.feeds["x"][:, 0] // 2)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"validation/y": np.zeros((2, 2), np.float32)}, "no array 'y' beside it"),
        ({"validation/x": np.zeros((2, 3), np.float32)}, "differ in more than their rows"),
        ({"validation/x": np.zeros((2, 2), np.float64)}, "differ in more than their rows"),
        ({"validation/x": np.zeros((2, 2), np.float32), "targets": np.zeros(20)}, "number of rows"),
    ],
)
def test_validation_arrays_that_contradict_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], words: str
) -> None:
    with pytest.raises(InvalidDatasetError, match=words):
        opened(tmp_path, **arrays)


def test_a_parquet_column_may_be_the_split(tmp_path: Path) -> None:
    columns = {"x": [[float(row), 0.0] for row in range(6)], "split": [0, 1, 0, 0, 1, 0]}
    schema = pa.schema({"x": pa.list_(pa.float32()), "split": pa.int8()})
    pq.write_table(pa.table(columns, schema), tmp_path / "d")
    training, validation = load_dataset(tmp_path / "d", [X]).split()
    assert (training.rows, validation.rows) == (4, 2)


def firsts(dataset: Dataset, size: int, seed: int, count: int, start: int = 0) -> list[np.ndarray]:
    """The rows of so many batches of `epochs`."""
    batches = itertools.islice(dataset.epochs(size, seed, start), count)
    return [batch.feeds["x"][:, 0] // 2 for batch in batches]


def test_one_row_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(TooFewRowsError, match="a single one"):
        opened(tmp_path, rows=1).split()
    dataset = replace(opened(tmp_path), held_out=np.zeros(0, np.int64))
    with pytest.raises(TooFewRowsError, match="20 rows for training and 0"):
        dataset.split()


def test_a_bound_model_needs_a_batch_on_each_side(tmp_path: Path) -> None:
    bound = TensorInfo(name="x", dtype="float32", shape=[8, 2])
    training, validation = opened(tmp_path, info=bound).split(0.1, 0)
    assert (training.rows, validation.rows) == (12, 8)
    assert [batch.rows for batch in validation.batches(1)] == [8]
    with pytest.raises(TooFewRowsError, match="needs 16 rows"):
        opened(tmp_path, rows=15, info=bound).split()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_lies_between_none_and_all(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(InvalidRecipeError):
        opened(tmp_path).split(fraction)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 23), st.integers(1, 40), st.integers(0, 60), st.integers(0, 10**6))
def test_epochs_go_on_where_they_were(tmp_path: Path, rows: int, size: int, start: int, seed: int) -> None:
    dataset = opened(tmp_path, rows=rows)
    whole = firsts(dataset, size, seed, start + 5)
    for one, other in zip(whole[start:], firsts(dataset, size, seed, 5, start), strict=True):
        np.testing.assert_array_equal(one, other)
    assert {len(rows) for rows in whole} == {dataset.batch_size(size)}
    epoch = np.concatenate(whole[: dataset.steps(size)])
    assert len(set(epoch)) == len(epoch)


def test_epochs_differ_and_a_seed_repeats_them(tmp_path: Path) -> None:
    dataset = opened(tmp_path)
    orders = [tuple(rows) for rows in firsts(dataset, 20, 1, 4)]
    assert len(set(orders)) == 4
    assert orders == [tuple(rows) for rows in firsts(dataset, 20, 1, 4)]
