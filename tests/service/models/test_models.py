"""`/v1/models`: what goes in, what is refused, and that nothing is left behind."""

import base64
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api_schemas.errors import ErrorCode
from api_schemas.models import Model
from service.context import Context
from store.records import JobKind
from tests.service.conftest import MakeClient, RecordingDoorbell, context_of
from tests.service.files import onnx_bytes, torchscript_bytes, zip_bytes
from tests.service.workers import Hand, inspection

Staged = Callable[[], list[Path]]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_raw_upload_is_kept_byte_for_byte(
    client: TestClient, context: Context, staging_files: Staged
) -> None:
    data = onnx_bytes(b"g" * 3_000_000)
    answer = client.post("/v1/models?filename=net.onnx", content=data)
    assert answer.status_code == 201
    model = Model.model_validate(answer.json())
    assert answer.headers["location"] == f"/v1/models/{model.id}"
    assert (model.sha256, model.format.value, model.size_bytes) == (sha256(data), "onnx", len(data))
    assert (model.filename, model.inspected, model.layers) == ("net.onnx", False, None)
    assert context.store.blobs.read(model.sha256) == data
    assert staging_files() == []


def test_an_upload_queues_its_inspection_and_rings(
    client: TestClient, context: Context, doorbell: RecordingDoorbell, model_id: str
) -> None:
    jobs = context.store.jobs.list(kind=JobKind.INSPECT).items
    assert [job.model_id for job in jobs] == [model_id]
    assert doorbell.rung == [jobs[0].id]


def test_inspection_fills_the_model_in(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect()
    model = Model.model_validate(client.get(f"/v1/models/{model_id}").json())
    found = inspection()
    assert model.inspected
    assert (model.opset, model.inputs, model.layers) == (found.opset, found.inputs, found.layers)


def test_equal_content_is_inspected_once(
    client: TestClient, context: Context, hand: Hand, doorbell: RecordingDoorbell, model_id: str
) -> None:
    hand.inspect()
    again = Model.model_validate(client.post("/v1/models", content=onnx_bytes()).json())
    assert again.inspected
    assert again.id != model_id
    assert len(doorbell.rung) == 1


def test_a_failed_inspection_is_told(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.reject()
    error = client.get(f"/v1/models/{model_id}").json()["inspection_error"]
    assert error == {"code": "invalid_model", "message": "It is broken.", "hint": "Mend it."}


def test_content_decides_never_the_name(client: TestClient) -> None:
    answer = client.post("/v1/models?filename=net.onnx", content=torchscript_bytes())
    assert answer.json()["format"] == "torchscript"


@pytest.mark.parametrize(("data", "name"), [(onnx_bytes(), "model.onnx"), (torchscript_bytes(), "model.pt")])
def test_a_nameless_upload_gets_a_name(client: TestClient, data: bytes, name: str) -> None:
    assert client.post("/v1/models", content=data).json()["filename"] == name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello", "neither ONNX"),
        (b"\x80\x04.", "pickle"),
        (zip_bytes({"m/archive_format": b"pt2"}), "not read yet"),
        (zip_bytes({"../m.onnx": onnx_bytes()}), "unsafe name"),
    ],
)
def test_what_is_no_model_is_415_with_the_reason(
    client: TestClient, staging_files: Staged, data: bytes, words: str
) -> None:
    answer = client.post("/v1/models", content=data)
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_format"
    assert words in answer.json()["detail"]
    assert staging_files() == []


def test_a_bomb_is_refused(client: TestClient) -> None:
    data = zip_bytes({"m.onnx": onnx_bytes(), "w.bin": bytes(8 * 2**20)}, compression=zipfile.ZIP_DEFLATED)
    assert client.post("/v1/models", content=data).status_code == 415


def test_a_zip_that_unpacks_to_too_much_is_413(make_client: MakeClient) -> None:
    client = make_client(max_unpacked_bytes=1000)
    answer = client.post("/v1/models", content=zip_bytes({"m.onnx": onnx_bytes(), "w.bin": bytes(2000)}))
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("declared", [True, False])
def test_the_quota_holds_with_and_without_a_length(make_client: MakeClient, declared: bool) -> None:
    client = make_client(max_upload_bytes=1000)
    data = onnx_bytes(b"x" * 2000)
    answer = client.post("/v1/models", content=data if declared else iter([data[:900], data[900:]]))
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert list(context_of(client).store.blobs.staging_dir().iterdir()) == []


def test_an_upload_that_would_fill_the_disk_is_507(make_client: MakeClient) -> None:
    client = make_client(reserve_bytes=2**60)
    answer = client.post("/v1/models", content=onnx_bytes())
    assert (answer.status_code, answer.json()["code"]) == (507, "payload_too_large")


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_digests_are_verified(client: TestClient, staging_files: Staged, header: str) -> None:
    data = onnx_bytes()
    value = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {header: f"md5=:AAAA:, sha-256=:{value}:"}
    assert client.post("/v1/models", content=data, headers=headers).status_code == 201
    answer = client.post("/v1/models", content=data + onnx_bytes(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_recipe")
    assert staging_files() == []


def test_a_malformed_digest_is_400(client: TestClient) -> None:
    answer = client.post("/v1/models", content=onnx_bytes(), headers={"Repr-Digest": "sha-256=abc"})
    assert answer.status_code == 400


def test_encoded_bodies_are_refused(client: TestClient) -> None:
    answer = client.post("/v1/models", content=onnx_bytes(), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 400


def test_multipart_with_one_file_is_the_same_as_raw(client: TestClient) -> None:
    data = onnx_bytes()
    answer = client.post("/v1/models", files={"file": ("net.onnx", data)})
    assert (answer.status_code, answer.json()["sha256"]) == (201, sha256(data))
    assert answer.json()["filename"] == "net.onnx"


def test_external_data_is_packed_the_same_way_every_time(client: TestClient, context: Context) -> None:
    def upload(order: list[str]) -> str:
        contents = {"w/b.bin": b"B" * 10, "a.bin": b"A" * 20}
        parts = [("file", ("net.onnx", onnx_bytes()))]
        parts += [("external_data", (name, contents[name])) for name in order]
        answer = client.post("/v1/models", files=parts)
        assert answer.status_code == 201, answer.text
        assert answer.json()["filename"] == "net.zip"
        digest: str = answer.json()["sha256"]
        return digest

    digest = upload(["a.bin", "w/b.bin"])
    assert upload(["w/b.bin", "a.bin"]) == digest
    path = context.settings.data_dir / "out.zip"
    context.store.blobs.fetch(digest, path)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a.bin", "net.onnx", "w/b.bin"]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("w/b.bin") == b"B" * 10


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "second.onnx", ""])
def test_external_data_with_a_bad_name_is_refused(client: TestClient, name: str) -> None:
    disposition = f'form-data; name="external_data"; filename="{name}"'
    model = b'--b\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\n' + onnx_bytes()
    data = f"\r\n--b\r\nContent-Disposition: {disposition}\r\n\r\nx\r\n--b--\r\n".encode()
    answer = client.post(
        "/v1/models", content=model + data, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/external_data")


def test_external_data_of_one_name_twice_is_refused(client: TestClient) -> None:
    parts = [
        ("file", ("m.onnx", onnx_bytes())),
        ("external_data", ("w", b"1")),
        ("external_data", ("w", b"2")),
    ]
    assert client.post("/v1/models", files=parts).status_code == 422


def test_external_data_beside_torchscript_is_refused(client: TestClient) -> None:
    parts = {"file": ("m.pt", torchscript_bytes()), "external_data": ("w", b"1")}
    assert client.post("/v1/models", files=parts).status_code == 422


def test_pages_follow_each_other(client: TestClient) -> None:
    made = [client.post("/v1/models", content=onnx_bytes(bytes([n]))).json()["id"] for n in range(5)]
    first = client.get("/v1/models?limit=3").json()
    second = client.get("/v1/models", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [model["id"] for model in first["items"] + second["items"]] == made[::-1]
    assert second["next_cursor"] is None


def test_a_strange_cursor_is_422(client: TestClient) -> None:
    answer = client.get("/v1/models?cursor=nonsense")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/cursor")


def test_delete(client: TestClient, hand: Hand, model_id: str) -> None:
    assert client.delete(f"/v1/models/{model_id}").status_code == 409
    hand.inspect()
    answer = client.delete(f"/v1/models/{model_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"/v1/models/{model_id}").json()["code"] == ErrorCode.NOT_FOUND
    assert client.delete(f"/v1/models/{model_id}").status_code == 404


def test_a_deletion_answers_with_nothing(client: TestClient, hand: Hand, model_id: str) -> None:
    hand.inspect()
    answer = client.delete(f"/v1/models/{model_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
