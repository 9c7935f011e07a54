"""Datasets of every kind give the same batches, fit a model or say why not, and never hand on bad numbers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from api_schemas.jobs import InputSpec
from api_schemas.models import TensorInfo
from tests.engine.data.rows import KINDS, ROWS, X, arrays, gathered, quick, save
from worker.engine.data import load_dataset
from worker.engine.data.opening import read_columns, sniff_dataset
from worker.engine.errors import NeedsDatasetError, NeedsInputsError


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_batches_joined_are_the_arrays(tmp_path: Path, kind: str, size: int) -> None:
    dataset = load_dataset(save(tmp_path / "data.npz", arrays(), kind), [X])
    assert dataset.rows == ROWS
    assert dataset.has_targets
    for name, value in gathered(dataset, size).items():
        np.testing.assert_array_equal(value, arrays()[name])


@quick
@given(
    value=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.uint16, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    kind=st.sampled_from(["npz", "npz compressed", "safetensors"]),
    fortran=st.booleans(),
)
def test_any_array_is_read_back_as_written(
    tmp_path: Path, value: np.ndarray, kind: str, fortran: bool
) -> None:
    laid_out = np.asfortranarray(value) if fortran and kind != "safetensors" else value
    path = save(tmp_path / "data.npz", {"x": laid_out}, kind)
    (column,) = read_columns(path, sniff_dataset(path))
    assert (column.name, column.shape, column.dtype) == ("x", value.shape, value.dtype)
    np.testing.assert_array_equal(np.asarray(column.read()), value)


def test_a_seed_draws_a_sample_whose_rows_stay_together(tmp_path: Path) -> None:
    content = {"x": np.arange(100, dtype=np.float32), "targets": np.arange(100)}
    info = TensorInfo(name="x", dtype="float32", shape=[None])
    dataset = load_dataset(save(tmp_path / "d.npz", content, "npz"), [info])
    drawn = gathered(dataset, 7, limit=30, seed=1)
    again = gathered(dataset, 7, limit=30, seed=1)
    np.testing.assert_array_equal(drawn["x"], drawn["targets"])
    np.testing.assert_array_equal(drawn["x"], again["x"])
    assert len(set(drawn["x"])) == 30
    assert not np.array_equal(drawn["x"], np.arange(30))


@pytest.mark.parametrize(("limit", "rows"), [(None, 8), (4, 4), (5, 4), (1, 4)])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_bound_batch_is_kept(tmp_path: Path, limit: int | None, rows: int, seed: int | None) -> None:
    info = TensorInfo(name="x", dtype="float32", shape=[4, 3, 2])
    dataset = load_dataset(save(tmp_path / "d.npz", arrays(), "npz"), [info])
    batches = list(dataset.batches(64, limit=limit, seed=seed))
    assert {batch.feeds["x"].shape for batch in batches} == {(4, 3, 2)}
    assert sum(batch.rows for batch in batches) == rows


def test_rows_that_carry_their_own_batch_axis_go_in_one_by_one(tmp_path: Path) -> None:
    content = {"x": arrays()["x"][:, None], "targets": arrays()["targets"]}
    dataset = load_dataset(
        save(tmp_path / "d.npz", content, "npz"), [X.model_copy(update={"shape": [1, 3, 2]})]
    )
    batches = list(dataset.batches(64))
    assert len(batches) == ROWS
    np.testing.assert_array_equal(batches[4].feeds["x"], content["x"][4])
    assert batches[4].rows == 1


def test_a_single_array_fits_a_single_input_whatever_its_name(tmp_path: Path) -> None:
    content = {"pixels": arrays()["x"], "targets": arrays()["targets"]}
    dataset = load_dataset(save(tmp_path / "d.npz", content, "npz"), [X])
    np.testing.assert_array_equal(gathered(dataset, 4)["x"], content["pixels"])


def test_inputs_are_fed_by_name_and_the_rest_is_listed(tmp_path: Path) -> None:
    content = {**arrays(), "y": np.ones((ROWS, 1), np.int32), "z": np.zeros(ROWS)}
    y = TensorInfo(name="y", dtype="int64", shape=["batch", 1])
    dataset = load_dataset(save(tmp_path / "d.npz", content, "npz"), [y, X])
    feeds = next(dataset.batches(2)).feeds
    assert list(feeds) == ["y", "x"]
    assert feeds["y"].dtype == np.int64
    assert dataset.unused == ("z",)


def test_a_plain_number_input_is_the_same_in_every_batch(tmp_path: Path) -> None:
    rate = TensorInfo(name="sr", dtype="int64", shape=[])
    dataset = load_dataset(
        save(tmp_path / "d.npz", arrays(), "npz"), [X, rate], given={"sr": InputSpec(value=16000)}
    )
    feeds = next(dataset.batches(2)).feeds
    assert feeds["sr"].shape == ()
    assert feeds["sr"] == 16000


def test_widths_are_converted(tmp_path: Path) -> None:
    content = {"x": arrays()["x"].astype(np.float64)}
    half = X.model_copy(update={"dtype": "float16"})
    feed = next(load_dataset(save(tmp_path / "d.npz", content, "npz"), [half]).batches(ROWS)).feeds["x"]
    np.testing.assert_array_equal(feed, content["x"].astype(np.float16))


BAD = {
    "no array for input 'a'": (
        {"x": np.ones((4, 3), np.float32), "y": np.ones(4)},
        [("a", "float32", [None, 3])],
    ),
    "does not fit input 'x'": ({"x": np.ones((4, 5), np.float32)}, [("x", "float32", [None, 3])]),
    "differ in their number of rows": (
        {"x": np.ones((4, 3), np.float32), "targets": np.ones(5, int)},
        [("x", "float32", [None, 3])],
    ),
    "is of another type": ({"x": np.ones((4, 3), np.uint8)}, [("x", "float32", [None, 3])]),
    "no rows": ({"x": np.ones((0, 3), np.float32)}, [("x", "float32", [None, 3])]),
    "takes 8 rows at a time": ({"x": np.ones((4, 3), np.float32)}, [("x", "float32", [8, 3])]),
    "a single number": ({"x": np.float32(1)}, [("x", "float32", [None])]),
    "bound to different batches": (
        {"x": np.ones((8, 3), np.float32), "y": np.ones((8, 3), np.float32)},
        [("x", "float32", [4, 3]), ("y", "float32", [2, 3])],
    ),
    "only numbers": ({"x": np.array(["a", "b"])}, [("x", "float32", [None])]),
}


@pytest.mark.parametrize("words", BAD)
def test_what_does_not_fit_says_why(tmp_path: Path, words: str) -> None:
    content, specs = BAD[words]
    path = save(tmp_path / "d.npz", content, "npz")
    with pytest.raises(NeedsDatasetError, match=words):
        load_dataset(path, [TensorInfo(name=name, dtype=dtype, shape=shape) for name, dtype, shape in specs])


def test_the_message_lists_expected_and_found(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", {"a": np.ones((2, 2)), "b": np.ones(2, bool)}, "npz")
    with pytest.raises(NeedsDatasetError) as caught:
        load_dataset(path, [X])
    for words in ("'x' float32[batch, 3, 2]", "'a' float64[2, 2]", "'b' bool[2]"):
        assert words in str(caught.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_never_fed(tmp_path: Path, bad: float) -> None:
    content = arrays()
    content["x"][7, 1, 1] = bad
    dataset = load_dataset(save(tmp_path / "d.npz", content, "npz"), [X])
    assert len(list(dataset.batches(2, limit=6))) == 3
    with pytest.raises(NeedsDatasetError, match="NaN or infinity"):
        list(dataset.batches(2))


@pytest.mark.parametrize(("value", "dtype"), [(300.0, "int8"), (1e6, "float16"), (-1, "uint8")])
def test_a_number_too_large_for_the_input_is_refused(tmp_path: Path, value: float, dtype: str) -> None:
    kind = np.float64 if dtype.startswith("float") else np.int64
    path = save(tmp_path / "d.npz", {"x": np.full((2, 1), value, kind)}, "npz")
    dataset = load_dataset(path, [TensorInfo(name="x", dtype=dtype, shape=[None, 1])])
    with pytest.raises(NeedsDatasetError):
        next(dataset.batches(2))


def test_given_shapes_complete_and_may_not_contradict(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", arrays(), "npz")
    unknown = TensorInfo(name="x", dtype="unknown", shape=None)
    assert next(load_dataset(path, [unknown], given={"x": [1, 3, 2]}).batches(5)).feeds["x"].shape == (
        5,
        3,
        2,
    )
    with pytest.raises(NeedsDatasetError):
        load_dataset(path, [unknown], given={"x": [1, 3, 7]})
    with pytest.raises(NeedsInputsError):
        load_dataset(path, [X], given={"x": [1, 3, 7]})
    with pytest.raises(NeedsInputsError, match="no input 'q'"):
        load_dataset(path, [X], given={"q": [1]})


def test_given_shapes_fix_what_the_file_leaves_open_but_not_the_rows(tmp_path: Path) -> None:
    open_shape = TensorInfo(name="x", dtype="float32", shape=["N", "height", 2])
    path = save(tmp_path / "d.npz", arrays(), "npz")
    assert next(load_dataset(path, [open_shape], given={"x": [1, 3, 2]}).batches(5)).rows == 5
    with pytest.raises(NeedsDatasetError, match=r"\[N, 4, 2\]"):
        load_dataset(path, [open_shape], given={"x": [1, 4, 2]})


def test_the_type_a_user_gives_counts_for_an_input_without_one(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", arrays(), "npz")
    unknown = TensorInfo(name="x", dtype="unknown", shape=None)
    half = load_dataset(path, [unknown], given={"x": InputSpec(dtype="float16")})
    assert next(half.batches(2)).feeds["x"].dtype == np.float16
    assert next(load_dataset(path, [unknown]).batches(2)).feeds["x"].dtype == np.float32


def test_bound_inputs_tell_the_shape_of_one_row(tmp_path: Path) -> None:
    dataset = load_dataset(
        save(tmp_path / "d.npz", arrays(), "npz"),
        [X, TensorInfo(name="k", dtype="int64", shape=[])],
        given={"k": InputSpec(value=1)},
    )
    assert dataset.input_specs() == {"x": InputSpec(shape=[1, 3, 2], dtype="float32")}


@given(rows=st.integers(1, 30), wanted=st.integers(1, 40), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sample_is_of_distinct_rows_in_order(tmp_path: Path, rows: int, wanted: int, seed: int) -> None:
    x = np.arange(rows, dtype=np.float32)[:, None]
    np.savez(tmp_path / "rows.npz", x=x)
    info = [TensorInfo(name="x", dtype="float32", shape=[None, 1])]
    sample = load_dataset(tmp_path / "rows.npz", info).sample(wanted, seed)
    found = np.concatenate([batch.feeds["x"][:, 0] for batch in sample.batches(7)])
    assert len(found) == sample.rows == min(rows, wanted)
    assert (np.diff(found) > 0).all()
    again = load_dataset(tmp_path / "rows.npz", info).sample(wanted, seed)
    np.testing.assert_array_equal(found, np.concatenate([b.feeds["x"][:, 0] for b in again.batches(30)]))
