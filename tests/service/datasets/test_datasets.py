"""`/v1/datasets` against files written by numpy, safetensors and pyarrow, and against hostile ones."""

import io
import json
import pickle  # noqa: TID251 (to make a file that must be refused)
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from starlette.testclient import TestClient

from api_schemas.datasets import Dataset
from service.datasets.service import read_arrays
from service.errors import ServiceError
from tests.service.conftest import MakeClient
from tests.service.files import digits, npz_bytes, zip_bytes
from tests.service.jobs.requests import body

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
DTYPES += ["float16", "float32", "float64"]


def parquet_bytes(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def post(client: TestClient, data: bytes) -> Any:
    return client.post("/v1/datasets", content=data)


def read(folder: Path, data: bytes) -> dict[str, tuple[str, list[int]]]:
    path = folder / "file"
    path.write_bytes(data)
    return {array.name: (array.dtype, array.shape) for array in read_arrays(path, 2**30)[1]}


def test_upload(client: TestClient) -> None:
    answer = client.post("/v1/datasets?filename=digits.npz", content=digits())
    assert answer.status_code == 201
    dataset = Dataset.model_validate(answer.json())
    assert answer.headers["location"] == f"/v1/datasets/{dataset.id}"
    assert (dataset.filename, dataset.format, dataset.rows, dataset.has_targets) == (
        "digits.npz", "npz", 6, True,
    )  # fmt: skip
    assert [(array.name, array.dtype, array.shape) for array in dataset.arrays] == [
        ("x", "float32", [6, 1, 8, 8]),
        ("targets", "int64", [6]),
    ]
    assert client.get(f"/v1/datasets/{dataset.id}").json() == answer.json()
    assert client.get("/v1/datasets").json()["items"] == [answer.json()]
    assert client.post("/v1/datasets", files={"file": ("d.npz", digits())}).json()["sha256"] == dataset.sha256
    assert client.delete(f"/v1/datasets/{dataset.id}").status_code == 204
    assert client.get(f"/v1/datasets/{dataset.id}").status_code == 404


def test_a_strange_cursor_is_422(client: TestClient) -> None:
    assert client.get("/v1/datasets?cursor=nonsense").status_code == 422


def test_a_dataset_in_use_cannot_be_deleted(client: TestClient, model_id: str) -> None:
    dataset_id = post(client, digits()).json()["id"]
    assert client.post("/v1/jobs", json=body(model_id, dataset_id)).status_code == 202
    assert client.delete(f"/v1/datasets/{dataset_id}").json()["code"] == "conflict"


shapes = st.lists(st.integers(0, 4), max_size=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    arrays=st.dictionaries(
        st.text("abcxyz.", min_size=1, max_size=5), st.tuples(st.sampled_from(DTYPES), shapes), max_size=4
    ),
    compressed=st.booleans(),
    fortran=st.booleans(),
)
def test_numpy_and_safetensors_headers_read_as_their_own_libraries_wrote_them(
    tmp_path: Path, arrays: dict[str, tuple[str, list[int]]], compressed: bool, fortran: bool
) -> None:
    order = "F" if fortran else "C"
    made = {name: np.zeros((3, *shape), dtype, order=order) for name, (dtype, shape) in arrays.items()}
    expected = {name: (dtype, [3, *shape]) for name, (dtype, shape) in arrays.items()}
    assert read(tmp_path, npz_bytes(compressed, **made)) == expected if made else True
    plain = {name: np.ascontiguousarray(array) for name, array in made.items()}
    assert read(tmp_path, save(plain)) == expected


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    columns=st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.tuples(st.sampled_from(DTYPES), st.integers(0, 4), st.booleans()),
        min_size=1,
        max_size=5,
    ),
    rows=st.integers(1, 7),
    group=st.integers(1, 8),
)
def test_parquet_columns_read_as_pyarrow_wrote_them(
    tmp_path: Path, columns: dict[str, tuple[str, int, bool]], rows: int, group: int
) -> None:
    arrays, expected = {}, {}
    for name, (dtype, length, fixed) in columns.items():
        if length == 0:
            arrays[name] = pa.array(np.zeros(rows, dtype))
            expected[name] = (dtype, [rows])
        else:
            kind = pa.list_(pa.from_numpy_dtype(dtype), length if fixed else -1)
            arrays[name] = pa.array([np.zeros(length, dtype)] * rows, kind)
            expected[name] = (dtype, [rows, length])
    assert read(tmp_path, parquet_bytes(pa.table(arrays), row_group_size=group)) == expected


class Bomb:
    def __reduce__(self) -> Any:
        return (print, ("unpickled",))


def npy_bytes(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def one_array(header: str, data: bytes = b"") -> bytes:
    return zip_bytes({"x.npy": npy_bytes(header, data)})


def tensor_file(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def text_column() -> bytes:
    return parquet_bytes(pa.table({"x": ["a", "b"]}))


CONTENT = [
    (npz_bytes(x=np.zeros((3, 2)), y=np.zeros((4, 2))), "differ in their number of rows"),
    (npz_bytes(x=np.zeros((0, 2))), "no rows"),
    (npz_bytes(x=np.array(1.0)), "no row dimension"),
    (npz_bytes(targets=np.zeros(3)), "no input"),
    (npz_bytes(x=np.zeros(3, np.complex64)), "only booleans, integers and floats"),
    (npz_bytes(x=np.array(["a", "b"])), "only booleans, integers and floats"),
    (npz_bytes(x=np.zeros(3, [("a", "f4")])), "only booleans, integers and floats"),
    (npz_bytes(x=np.array([Bomb()], dtype=object)), "Python objects"),
    (npz_bytes(**{"x": np.zeros((3, 2)), "validation/x": np.zeros((2, 5))}), "more than their rows"),
    (
        npz_bytes(
            **{
                "x": np.zeros((3, 2)),
                "y": np.zeros(3),
                "validation/x": np.zeros((2, 2)),
                "validation/y": np.zeros(1),
            }
        ),
        "differ in their number of rows",
    ),
    (npz_bytes(split=np.zeros(3, int), targets=np.zeros(3)), "no input"),
    (one_array("{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}", b"1234"), "not as long"),
    (one_array("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "no usable shape"),
    (one_array("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)), "no usable shape"),
    (save({"x": np.zeros((2, 2)), "y": np.zeros((3, 2))}), "differ in their number of rows"),
    (tensor_file({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"1"), "not read"),
    (tensor_file({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, bytes(4)), "not as long"),
    (text_column(), "neither boolean, integer nor float"),
    (parquet_bytes(pa.table({"x": [[1, 2], [3]]})), None),
    (parquet_bytes(pa.table({"x": [[1, 2], [3]], "y": [1, 2]})), "differ in length"),
    (parquet_bytes(pa.table({"x": [{"a": 1, "b": 2}]})), "structure"),
    (parquet_bytes(pa.table({"x": pa.array([], pa.float32())})), "no rows"),
]
NO_DATASET = [
    (b"", "it is empty"),
    (b"x,y\n1,2\n", "neither .npz"),
    (pickle.dumps(Bomb()), "neither .npz"),
    (zip_bytes({"x.txt": b"1"}), "not an .npy array"),
    (zip_bytes({"x.npy": b"not numpy"}), "not the header"),
    (zip_bytes({"../x.npy": b"1"}), "unsafe name"),
    (one_array("__import__('os').system('true')"), "cannot be read"),
    (one_array("[" * 5000), "cannot be read"),
    (one_array("()"), "cannot be read"),
    (zip_bytes({"x.npy": b"\x93NUMPY\x02\x00" + struct.pack("<L", 70_000) + b" " * 70_000}), "too long"),
    (npz_bytes(True, x=np.zeros(10**7)), "200 times"),
    (tensor_file(b"{]"), "not JSON"),
    (tensor_file({"x": 1}), "malformed"),
    (tensor_file({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 99]}}), "past the end"),
    (b"PAR1" + bytes(20), "footer is missing"),
    (b"PAR1" + b"\xff" * 20 + (20).to_bytes(4, "little") + b"PAR1", "damaged"),
    (text_column()[:-10], "footer is missing"),
]


@pytest.mark.parametrize(("data", "words"), [case for case in CONTENT if case[1]])
def test_datasets_with_unusable_content_are_422(client: TestClient, data: bytes, words: str) -> None:
    answer = post(client, data)
    special = {"no rows": "too_few_rows", "Python objects": "pickled_data"}
    assert (answer.status_code, answer.json()["code"]) == (422, special.get(words, "invalid_dataset"))
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(("data", "words"), NO_DATASET)
def test_what_is_no_dataset_is_415(client: TestClient, data: bytes, words: str) -> None:
    answer = post(client, data)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert words in answer.json()["detail"]


def test_an_npz_that_unpacks_to_too_much_is_413(make_client: MakeClient) -> None:
    answer = post(make_client(max_unpacked_bytes=100), npz_bytes(x=np.zeros(100)))
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def test_a_giant_safetensors_header_is_refused_unread(client: TestClient) -> None:
    data = (17 * 2**20).to_bytes(8, "little") + b"{" + b" " * (17 * 2**20)
    assert "too long" in post(client, data).json()["detail"]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damaged_files_are_refused_or_read_but_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    table = pa.table({"x": [[1.0, 2.0]] * 3, "targets": [1, 2, 3]})
    makers: list[Callable[[], bytes]] = [
        digits,
        lambda: save({"x": np.zeros((2, 2), np.float32), "targets": np.zeros(2)}),
        lambda: parquet_bytes(table, compression="none"),
    ]
    damaged = bytearray(data.draw(st.sampled_from(makers))())
    start = data.draw(st.sampled_from([0, max(0, len(damaged) - 700)]))
    for _ in range(data.draw(st.integers(1, 5))):
        damaged[data.draw(st.integers(start, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(bytes(damaged))
    try:
        read_arrays(path, 2**30)
    except ServiceError as error:
        assert error.http_status in (413, 415, 422)


def test_npy_version_two_and_three_headers(tmp_path: Path) -> None:
    for version in (2, 3):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.zeros((2, 3), np.int16), version=(version, 0))
        assert read(tmp_path, zip_bytes({"x.npy": buffer.getvalue()})) == {"x": ("int16", [2, 3])}


def test_an_empty_file_is_called_empty(client: TestClient) -> None:
    answer = client.post("/v1/datasets", content=b"")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_format")
    assert "it is empty" in answer.json()["detail"]
