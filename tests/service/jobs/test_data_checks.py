"""A dataset that cannot fit the model is refused when the job is asked for, each fault with its own code."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save
from starlette.testclient import TestClient

from tests.service.files import npz_bytes, zip_bytes
from tests.service.jobs.requests import body
from tests.service.workers import Hand, inspection

PNG = b"\x89PNG\r\n\x1a\n" + bytes(16)
PIXELS = np.zeros((4, 1, 8, 8), np.float32)


def refused(client: TestClient, model_id: str, data: bytes, **changes: Any) -> tuple[str, str]:
    """(code, detail) of the refusal of a job with this dataset; nothing is queued."""
    uploaded = client.post("/v1/datasets", content=data)
    assert uploaded.status_code == 201, uploaded.json()
    inputs = changes.pop("inputs", {})
    answer = client.post(
        "/v1/jobs", json=body(model_id, uploaded.json()["id"], **changes) | {"inputs": inputs}
    )
    assert answer.status_code == 422, answer.json()
    assert client.get("/v1/jobs").json()["items"] == []
    return answer.json()["code"], answer.json()["detail"]


def accepted(client: TestClient, model_id: str, data: bytes, **changes: Any) -> None:
    uploaded = client.post("/v1/datasets", content=data)
    assert uploaded.status_code == 201, uploaded.json()
    inputs = changes.pop("inputs", {})
    answer = client.post(
        "/v1/jobs", json=body(model_id, uploaded.json()["id"], **changes) | {"inputs": inputs}
    )
    assert answer.status_code == 202, answer.json()


def inspected(
    hand: Hand, *inputs: tuple[str, str, list[Any] | None], outputs: list[Any] | None = None
) -> None:
    infos = [{"name": name, "dtype": dtype, "shape": shape} for name, dtype, shape in inputs]
    changes: dict[str, Any] = {"inputs": infos}
    if outputs is not None:
        changes["outputs"] = [{"name": "y", "dtype": "float32", "shape": outputs}]
    hand.inspect(inspection(**changes))


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (npz_bytes(a=PIXELS, b=PIXELS), "needs_dataset", "no array for the input 'x'"),
        (npz_bytes(x=PIXELS.astype(np.uint8)), "wrong_dtype", "holds whole numbers (uint8)"),
        (npz_bytes(x=PIXELS > 0), "wrong_dtype", "holds booleans"),
        (npz_bytes(x=PIXELS[:, :, :7]), "needs_dataset", "shape [4, 1, 7, 8] does not fit"),
        (npz_bytes(x=PIXELS[:, 0]), "needs_dataset", "does not fit the input 'x' float32[n, 1, 8, 8]"),
        (parquet(x=np.zeros(3, np.int64)), "wrong_dtype", "takes floating-point numbers"),
    ],
)
def test_arrays_that_do_not_fit(
    client: TestClient, hand: Hand, model_id: str, data: bytes, code: str, words: str
) -> None:
    hand.inspect()
    found = refused(client, model_id, data)
    assert found[0] == code
    assert words in found[1]


@pytest.mark.parametrize(
    "data",
    [
        npz_bytes(x=PIXELS.astype(np.float64)),
        npz_bytes(x=PIXELS[:, None]),
        npz_bytes(anything=PIXELS, targets=np.zeros(4, int)),
        npz_bytes(anything=PIXELS, targets=np.zeros(4, int), split=np.zeros(4, bool)),
        npz_bytes(**{"x": PIXELS, "validation/x": PIXELS[:2]}),
        parquet(x=[[0.0] * 64] * 3),
    ],
)
def test_arrays_that_may_fit(client: TestClient, hand: Hand, model_id: str, data: bytes) -> None:
    hand.inspect()
    accepted(client, model_id, data)


def test_shapes_given_count_where_the_file_has_none(client: TestClient, hand: Hand, model_id: str) -> None:
    inspected(hand, ("x", "float32", None))
    data = npz_bytes(x=PIXELS)
    assert refused(client, model_id, data, inputs={"x": [1, 3, 8, 8]})[0] == "needs_dataset"
    assert (
        refused(client, model_id, data, inputs={"x": {"shape": [1, 1, 8, 8], "dtype": "int64"}})[0]
        == "wrong_dtype"
    )
    accepted(client, model_id, data, inputs={"x": [1, 1, 8, 8]})


def test_a_model_bound_to_more_rows_than_there_are(client: TestClient, hand: Hand, model_id: str) -> None:
    inspected(hand, ("x", "float32", [8, 1, 8, 8]))
    code, detail = refused(client, model_id, npz_bytes(x=PIXELS))
    assert (code, "8 rows at a time; the dataset has 4" in detail) == ("too_few_rows", True)


def test_a_single_row_is_too_few_to_learn_from(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect()
    code, detail = refused(client, model_id, npz_bytes(x=PIXELS[:1]), criterion={"name": "wanda"})
    assert (code, "single row" in detail) == ("too_few_rows", True)
    accepted(client, model_id, npz_bytes(x=PIXELS[:1]))


def test_inputs_given_as_numbers_need_no_array(client: TestClient, hand: Hand, model_id: str) -> None:
    inspected(hand, ("x", "float32", ["n", 1, 8, 8]), ("rate", "int64", []))
    assert refused(client, model_id, npz_bytes(x=PIXELS))[0] == "needs_dataset"
    accepted(client, model_id, npz_bytes(x=PIXELS), inputs={"rate": {"value": 16000}})


def pictures(*classes: str) -> bytes:
    return zip_bytes({f"{name}/{row}.png": PNG for name in classes for row in range(3)})


def test_images_fit_inputs_that_are_pictures(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect()
    accepted(client, model_id, pictures("cat", "dog"))


@pytest.mark.parametrize(
    "inputs",
    [
        [("x", "float32", ["n", 64])],
        [("x", "float32", ["n", 16, 8, 8])],
        [("x", "float32", ["n", 3, 8, 8]), ("y", "float32", ["n", 3, 8, 8])],
    ],
)
def test_images_do_not_fit_other_inputs(
    client: TestClient, hand: Hand, model_id: str, inputs: list[tuple[str, str, list[Any]]]
) -> None:
    inspected(hand, *inputs)
    assert refused(client, model_id, pictures("cat", "dog"))[0] == "needs_dataset"


def test_more_folders_than_classes_are_labels_out_of_range(
    client: TestClient, hand: Hand, model_id: str
) -> None:
    inspected(hand, ("x", "float32", ["n", 3, 8, 8]), outputs=["n", 2])
    code, detail = refused(client, model_id, pictures("cat", "dog", "fish"))
    assert (code, "has 3 classes; the model's output has 2" in detail) == ("labels_out_of_range", True)
    accepted(client, model_id, pictures("cat", "dog"))


@pytest.mark.parametrize("kind", ["npz", "safetensors", "big-endian"])
@pytest.mark.parametrize("labels", [[0, 1, 2, 10], [-1, 0, 1, 2], [0, 1, 2, 9]])
def test_labels_are_held_against_the_classes(
    client: TestClient, hand: Hand, model_id: str, kind: str, labels: list[int]
) -> None:
    hand.inspect()
    targets = np.array(labels, ">i2" if kind == "big-endian" else np.int64)
    data = (
        save({"x": PIXELS, "targets": targets})
        if kind == "safetensors"
        else npz_bytes(compressed=kind == "npz", x=PIXELS, targets=targets)
    )
    if labels[-1] == 9:
        accepted(client, model_id, data)
        return
    code, detail = refused(client, model_id, data)
    assert code == "labels_out_of_range"
    assert f"from {min(labels)} to {max(labels)}" in detail and "from 0 to 9" in detail


def test_labels_of_validation_rows_count_too(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect()
    targets = np.zeros(4, np.uint8)
    arrays = {"x": PIXELS, "targets": targets, "validation/x": PIXELS, "validation/targets": targets + 77}
    assert refused(client, model_id, npz_bytes(**arrays))[0] == "labels_out_of_range"


@pytest.mark.parametrize("outputs", [["n", 1], ["n", None], ["n", 3, 8, 8], ["n"]])
def test_whole_numbers_may_be_no_labels(
    client: TestClient, hand: Hand, model_id: str, outputs: list[Any]
) -> None:
    inspected(hand, ("x", "float32", ["n", 1, 8, 8]), outputs=outputs)
    accepted(client, model_id, npz_bytes(x=PIXELS, targets=np.array([[500], [600], [7], [8]])))
