"""Datasets of every kind give the same batches, fit a model or say why not, and never hand on bad numbers."""

import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from api_schemas.datasets import DatasetFormat
from api_schemas.jobs import InputSpec
from api_schemas.models import TensorInfo
from worker.engine.data import Dataset, load_dataset
from worker.engine.data.opening import read_columns, sniff_dataset
from worker.engine.errors import InvalidDatasetError, NeedsDatasetError, NeedsInputsError, TooLargeError

ROWS = 10
X = TensorInfo(name="x", dtype="float32", shape=["batch", 3, 2])
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def arrays() -> dict[str, np.ndarray]:
    """A small labelled dataset."""
    values = np.random.default_rng(0).normal(size=(ROWS, 3, 2)).astype(np.float32)
    return {"x": values, "targets": np.arange(ROWS, dtype=np.int64) % 3}


def save(path: Path, content: dict[str, np.ndarray], kind: str) -> Path:
    """Write a dataset file of a kind."""
    if kind == "npz":
        np.savez(path, **content)
        return path.with_suffix(".npz") if path.suffix != ".npz" else path
    if kind == "npz compressed":
        np.savez_compressed(path, **content)
        return path.with_suffix(".npz") if path.suffix != ".npz" else path
    if kind == "safetensors":
        save_file(content, path)
        return path
    pq.write_table(
        pa.table({name: value.tolist() for name, value in content.items()}, parquet_schema(content)), path
    )
    return path


def parquet_schema(content: dict[str, np.ndarray]) -> pa.Schema:
    """Lists of lists of the arrays' own number types."""
    fields = []
    for name, value in content.items():
        kind = pa.from_numpy_dtype(value.dtype)
        for _ in range(value.ndim - 1):
            kind = pa.list_(kind)
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


KINDS = ["npz", "npz compressed", "safetensors", "parquet"]


def gathered(dataset: Dataset, size: int, **options: int) -> dict[str, np.ndarray]:
    """All batches joined."""
    batches = list(dataset.batches(size, **options))
    joined = {name: np.concatenate([batch.feeds[name] for batch in batches]) for name in batches[0].feeds}
    if batches[0].targets is not None:
        joined["targets"] = np.concatenate([batch.targets for batch in batches if batch.targets is not None])
    assert sum(batch.rows for batch in batches) == len(next(iter(joined.values())))
    return joined


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3, 10, 64])
def test_batches_joined_are_the_arrays(tmp_path: Path, kind: str, size: int) -> None:
    dataset = load_dataset(save(tmp_path / "data.npz", arrays(), kind), [X])
    assert dataset.rows == ROWS
    assert dataset.has_targets
    for name, value in gathered(dataset, size).items():
        np.testing.assert_array_equal(value, arrays()[name])


@pytest.mark.parametrize(
    ("kind", "format"),
    [
        ("npz", DatasetFormat.NPZ),
        ("safetensors", DatasetFormat.SAFETENSORS),
        ("parquet", DatasetFormat.PARQUET),
    ],
)
def test_the_kind_is_told_from_the_content(tmp_path: Path, kind: str, format: DatasetFormat) -> None:
    assert sniff_dataset(save(tmp_path / "data.npz", arrays(), kind)) is format


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


@pytest.mark.parametrize("kind", ["npz", "npz compressed"])
def test_fortran_order_is_kept(tmp_path: Path, kind: str) -> None:
    value = np.arange(12.0).reshape(3, 4)
    path = save(tmp_path / "data.npz", {"x": np.asfortranarray(value)}, kind)
    (column,) = read_columns(path, DatasetFormat.NPZ)
    np.testing.assert_array_equal(column.read(), value)


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


def test_bfloat16_safetensors_are_read(tmp_path: Path) -> None:
    value = arrays()["x"].astype(ml_dtypes.bfloat16)
    save_file({"x": value}, tmp_path / "d")
    feed = next(load_dataset(tmp_path / "d", [X]).batches(ROWS)).feeds["x"]
    np.testing.assert_array_equal(feed, value.astype(np.float32))


def test_fixed_size_tensors_in_parquet_are_arrays(tmp_path: Path) -> None:
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(arrays()["x"])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(ROWS * 4, dtype=np.float32)), 4)
    pq.write_table(pa.table({"x": flat}), tmp_path / "flat")
    (column,) = read_columns(tmp_path / "flat", DatasetFormat.PARQUET)
    np.testing.assert_array_equal(column.read(), np.arange(ROWS * 4, dtype=np.float32).reshape(ROWS, 4))
    pq.write_table(pa.table({"x": tensor}), tmp_path / "tensor")
    (column,) = read_columns(tmp_path / "tensor", DatasetFormat.PARQUET)
    np.testing.assert_array_equal(column.read(), arrays()["x"])
    swapped = pa.fixed_shape_tensor(pa.float32(), (2, 3), permutation=[1, 0])
    storage = pa.FixedSizeListArray.from_arrays(pa.array(arrays()["x"].transpose(0, 2, 1).ravel()), 6)
    pq.write_table(pa.table({"x": pa.ExtensionArray.from_storage(swapped, storage)}), tmp_path / "swapped")
    (column,) = read_columns(tmp_path / "swapped", DatasetFormat.PARQUET)
    np.testing.assert_array_equal(column.read(), arrays()["x"])


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


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}, None], dtype=object))
    with pytest.raises(NeedsDatasetError, match="never unpickled"):
        load_dataset(tmp_path / "d.npz", [X])


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    path = save(tmp_path / "d.npz", {"x": np.ones((1000, 1000), np.float32)}, "npz")
    with pytest.raises(TooLargeError):
        load_dataset(path, [TensorInfo(name="x", dtype="float32", shape=[None, 1000])], logical_bytes=10**6)


def test_a_parquet_bomb_is_refused_from_its_footer(tmp_path: Path) -> None:
    content = {"x": np.zeros((20_000, 64), np.float32)}
    path = save(tmp_path / "d", content, "parquet")
    assert path.stat().st_size < 200_000
    with pytest.raises(TooLargeError, match="unpacks to 5,120,000 bytes"):
        load_dataset(path, [TensorInfo(name="x", dtype="float32", shape=[None, 64])], logical_bytes=10**6)


def test_plain_parquet_columns_are_weighed_before_they_are_read(tmp_path: Path) -> None:
    path = save(tmp_path / "d", {"x": np.zeros(10**6, np.float32)}, "parquet")
    with pytest.raises(TooLargeError, match="unpacks to 4,000,000 bytes"):
        load_dataset(path, [TensorInfo(name="x", dtype="float32", shape=[None])], logical_bytes=10**6)


def test_parquet_lists_of_different_length_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [[1.0, 2.0], [3.0]]}), tmp_path / "d")
    with pytest.raises(NeedsDatasetError, match="differ in length"):
        load_dataset(tmp_path / "d", [X])


def test_parquet_gaps_and_text_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([[1.0], None], pa.list_(pa.float32()))}), tmp_path / "d")
    (column,) = read_columns(tmp_path / "d", DatasetFormat.PARQUET)
    with pytest.raises(InvalidDatasetError, match="missing values"):
        column.read()
    pq.write_table(pa.table({"x": ["a"]}), tmp_path / "e")
    with pytest.raises(NeedsDatasetError):
        load_dataset(tmp_path / "e", [X])


@pytest.mark.parametrize("kind", KINDS)
@quick
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_never_worse(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    content = bytearray(save(tmp_path / "d.npz", arrays(), kind).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken"
    broken.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        dataset = load_dataset(broken, [X], logical_bytes=10**7)
        list(dataset.batches(4))
    except (NeedsDatasetError, TooLargeError):
        pass


def test_a_file_that_is_no_dataset_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"hello, world")
    with pytest.raises(NeedsDatasetError, match=r"neither \.npz"):
        load_dataset(tmp_path / "d", [X])
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(NeedsDatasetError, match="no array"):
        load_dataset(tmp_path / "z", [X])


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


def test_an_absent_file_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(NeedsDatasetError, match="cannot be read"):
        load_dataset(tmp_path / "nothing.npz", [X])


def npz_of(path: Path, content: bytes) -> Path:
    """An archive with one member of these bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    return path


def npy(value: np.ndarray, version: tuple[int, int]) -> bytes:
    """One array as .npy of a version."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, value, version=version)
    return stream.getvalue()


def test_array_headers_of_version_two_are_read_and_later_ones_refused(tmp_path: Path) -> None:
    value = arrays()["x"]
    (column,) = read_columns(npz_of(tmp_path / "two", npy(value, (2, 0))), DatasetFormat.NPZ)
    np.testing.assert_array_equal(column.read(), value)
    with pytest.raises(NeedsDatasetError, match="version"):
        read_columns(npz_of(tmp_path / "three", npy(value, (3, 0))), DatasetFormat.NPZ)


@pytest.mark.parametrize("change", [b"", b"abcd"])
def test_an_array_as_long_as_it_says_or_none(tmp_path: Path, change: bytes) -> None:
    content = npy(arrays()["x"], (1, 0))
    wrong = content[:-4] if not change else content + change
    with pytest.raises(NeedsDatasetError, match="shorter or longer"):
        read_columns(npz_of(tmp_path / "d", wrong), DatasetFormat.NPZ)


def test_a_compressed_array_that_does_not_unpack_is_refused_when_read(tmp_path: Path) -> None:
    noise = {"x": np.random.default_rng(0).normal(size=(ROWS, 3, 2))}
    path = save(tmp_path / "d.npz", noise, "npz compressed")
    content = bytearray(path.read_bytes())
    content[300:320] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(NeedsDatasetError):
        list(load_dataset(path, [X]).batches(4))


def test_a_parquet_file_with_twins_or_lists_that_change_length_is_refused(tmp_path: Path) -> None:
    twins = pa.table([pa.array([1.0]), pa.array([2.0])], names=["x", "x"])
    pq.write_table(twins, tmp_path / "twins")
    with pytest.raises(NeedsDatasetError, match="two columns of one name"):
        load_dataset(tmp_path / "twins", [X])
    lists = [[1.0, 2.0]] * 4096 + [[1.0]] * 4096
    pq.write_table(pa.table({"x": lists}), tmp_path / "lists")
    with pytest.raises(NeedsDatasetError, match="differ in length"):
        load_dataset(tmp_path / "lists", [X])


def test_tensors_of_types_that_no_model_takes_are_refused(tmp_path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "d").write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(NeedsDatasetError, match="F8_E4M3"):
        load_dataset(tmp_path / "d", [X])


def test_dates_in_parquet_are_no_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": pa.array([0, 1], pa.timestamp("s"))}), tmp_path / "d")
    with pytest.raises(NeedsDatasetError, match="only numbers"):
        load_dataset(tmp_path / "d", [X])


def test_records_in_parquet_are_no_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [{"a": 1.0}, {"a": 2.0}]}), tmp_path / "d")
    with pytest.raises(NeedsDatasetError, match="only numbers"):
        load_dataset(tmp_path / "d", [X])


def test_an_empty_safetensors_array_is_read_as_empty(tmp_path: Path) -> None:
    save_file({"x": np.empty((0, 3), np.float32)}, tmp_path / "d")
    (column,) = read_columns(tmp_path / "d", DatasetFormat.SAFETENSORS)
    assert column.read().shape == (0, 3)


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
