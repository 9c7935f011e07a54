"""Files of every kind are read as written, and damaged, foreign or oversized ones are refused."""

import io
import json
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from api_schemas.datasets import DatasetFormat
from api_schemas.models import TensorInfo
from tests.engine.data.rows import KINDS, ROWS, X, arrays, quick, save
from worker.engine.data import load_dataset
from worker.engine.data.opening import read_columns, sniff_dataset
from worker.engine.errors import InvalidDatasetError, NeedsDatasetError, TooLargeError


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


@pytest.mark.parametrize("kind", ["npz", "npz compressed"])
def test_fortran_order_is_kept(tmp_path: Path, kind: str) -> None:
    value = np.arange(12.0).reshape(3, 4)
    path = save(tmp_path / "data.npz", {"x": np.asfortranarray(value)}, kind)
    (column,) = read_columns(path, DatasetFormat.NPZ)
    np.testing.assert_array_equal(column.read(), value)


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
