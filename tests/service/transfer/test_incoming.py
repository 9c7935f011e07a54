"""Uploads that stall, crawl or fill the disk end in a clear answer and leave nothing."""

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from service.context import Context
from service.errors import SlowUploadError
from service.transfer.incoming import FileSink, body_chunks
from store.blobs import BlobStore
from store.errors import BlobError
from tests.service.files import onnx_bytes


def read(context: Context, folder: Path, pauses: list[float], **settings: Any) -> int:
    """The number of bytes read from a body that sends ten bytes after each pause."""
    changed = context.settings.model_copy(update=settings)
    context = dataclasses.replace(context, settings=changed)
    left = list(pauses)

    async def receive() -> Message:
        await anyio.sleep(left.pop(0))
        return {"type": "http.request", "body": b"0123456789", "more_body": bool(left)}

    async def run() -> int:
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, receive)
        return sum([len(chunk) async for chunk in body_chunks(request, context, folder)])

    return anyio.run(run)


def test_a_steady_upload_is_read_to_its_end(context: Context, tmp_path: Path) -> None:
    assert read(context, tmp_path, [0, 0.01, 0.01]) == 30


def test_an_upload_that_stands_still_is_ended(context: Context, tmp_path: Path) -> None:
    with pytest.raises(SlowUploadError, match="stood still") as caught:
        read(context, tmp_path, [0, 20], upload_idle_seconds=0.05)
    assert caught.value.http_status == 408


def test_an_upload_that_crawls_is_ended(context: Context, tmp_path: Path) -> None:
    """Each pause is shorter than the idle limit, so only the mean rate can tell."""
    with pytest.raises(SlowUploadError, match="too slow"):
        read(context, tmp_path, [0.05] * 100, upload_idle_seconds=0.2, upload_min_bytes_per_second=10**6)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/datasets"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_507(
    client: TestClient, staging_files: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch,
    path: str, number: int,
) -> None:  # fmt: skip
    def full(self: FileSink, block: bytes) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(FileSink, "_write", full)
    answer = client.post(path, content=onnx_bytes())
    assert (answer.status_code, answer.json()["code"]) == (507, "payload_too_large")
    assert staging_files() == []


def test_a_disk_that_fills_up_while_publishing_is_507(
    client: TestClient, staging_files: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise BlobError("cannot be stored") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(BlobStore, "publish", full)
    assert client.post("/v1/models", content=onnx_bytes()).status_code == 507
    assert staging_files() == []


def test_other_disk_errors_are_faults_of_ours(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: FileSink, block: bytes) -> None:
        raise OSError(errno.EIO, "the disk is on fire")

    monkeypatch.setattr(FileSink, "_write", broken)
    answer = client.post("/v1/models", content=onnx_bytes())
    assert answer.status_code == 500
    assert "fire" not in answer.text
