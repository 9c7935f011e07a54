"""The API under a real uvicorn: streaming in constant memory, resumed downloads, replayed events."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.settings import ServiceSettings
from store import Store, StoreSettings, open_store
from store.records import JobKind
from tests.servers import free_port
from tests.service.files import onnx_bytes, varint
from tests.service.workers import Hand

MEBIBYTE = 2**20
LARGE = 300 * MEBIBYTE
RECIPE = {"recipe": {"criterion": {"name": "magnitude"}, "target": {"sparsity": 0.5}}}


@dataclass(frozen=True)
class Live:
    """A running API, a client of it, and the store that it works on."""

    process: subprocess.Popen[bytes]
    client: httpx2.Client
    store: Store
    data_dir: Path


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    port = free_port()
    data_dir = tmp_path / "data"
    command = [sys.executable, "-m", "service", "--port", str(port), "--data-dir", str(data_dir)]
    environment = {**os.environ, "LOOKAHEAD_RESERVE_BYTES": "0", "LOOKAHEAD_POLL_SECONDS": "0.02"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False)
    try:
        _wait(client, process, tmp_path / "log")
        store = open_store(StoreSettings(data_dir=data_dir), migrate=False)
        yield Live(process, client, store, data_dir)
        store.close()
    finally:
        client.close()
        process.send_signal(signal.SIGTERM)
        # uvicorn raises the signal again once it is done, so an orderly end shows in the log.
        assert process.wait(30) in (0, -signal.SIGTERM)
        assert "Finished server process" in (tmp_path / "log").read_text()
        assert "Traceback" not in (tmp_path / "log").read_text()


def _wait(client: httpx2.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/livez").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.1)
    pytest.fail(f"the service did not start:\n{log.read_text()}")


def peak_memory(live: Live) -> int:
    """Bytes that the process has held at most (VmHWM)."""
    status = Path(f"/proc/{live.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def large_model() -> Iterator[bytes]:
    """An ONNX outline of `LARGE` bytes, made as it is sent."""
    yield onnx_bytes(b"")[:2] + b"\x3a" + varint(LARGE)
    block = os.urandom(MEBIBYTE)
    for _ in range(LARGE // MEBIBYTE):
        yield block


def queued_job(live: Live, hand: Hand) -> str:
    uploaded = live.client.post("/v1/models", content=onnx_bytes())
    hand.inspect()
    answer = live.client.post("/v1/jobs", json={"model_id": uploaded.json()["id"], **RECIPE})
    assert answer.status_code == 202, answer.text
    found: str = answer.json()["id"]
    return found


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_large_upload_and_download_hold_memory_still(live: Live, tmp_path: Path) -> None:
    hand = Hand(live.store, tmp_path)
    live.client.post("/v1/models", content=onnx_bytes())
    before = peak_memory(live)
    digest = hashlib.sha256()

    def counted() -> Iterator[bytes]:
        for block in large_model():
            digest.update(block)
            yield block

    model = live.client.post("/v1/models", content=counted()).json()
    assert model["sha256"] == digest.hexdigest()
    hand.inspect()
    hand.inspect()
    job_id = live.client.post("/v1/jobs", json={"model_id": model["id"], **RECIPE}).json()["id"]
    path = tmp_path / "large"
    live.store.blobs.fetch(model["sha256"], path)
    claim = hand.claim(JobKind.PRUNE)
    hand.finish(claim, model=path.read_bytes())
    received = hashlib.sha256()
    with live.client.stream("GET", f"/v1/jobs/{job_id}/model") as answer:
        for block in answer.iter_bytes():
            received.update(block)
    assert received.hexdigest() == model["sha256"]
    assert peak_memory(live) - before < 64 * MEBIBYTE


def test_a_multipart_upload_holds_memory_still(live: Live) -> None:
    live.client.post("/v1/models", files={"file": ("m", onnx_bytes())})
    before = peak_memory(live)

    def form() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="m.onnx"\r\n\r\n'
        yield from large_model()
        yield b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = live.client.post("/v1/models", content=form(), headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["size_bytes"] == LARGE + 3 + len(varint(LARGE))
    assert peak_memory(live) - before < 64 * MEBIBYTE


def test_an_upload_that_is_cut_leaves_nothing(live: Live) -> None:
    host, port = live.client.base_url.host, live.client.base_url.port
    assert port is not None
    staging = live.store.blobs.staging_dir()
    with socket.create_connection((host, port)) as connection:
        head = f"POST /v1/models HTTP/1.1\r\nHost: {host}\r\nContent-Length: 50000000\r\n\r\n"
        connection.sendall(head.encode() + os.urandom(5_000_000))
        _until(lambda: any(staging.iterdir()))
    _until(lambda: not any(staging.iterdir()))
    assert live.client.get("/v1/models").json()["items"] == []


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_a_broken_download_is_resumed_where_it_broke(live: Live, tmp_path: Path) -> None:
    hand = Hand(live.store, tmp_path)
    job_id = queued_job(live, hand)
    content = os.urandom(20 * MEBIBYTE)
    hand.finish(hand.claim(JobKind.PRUNE), model=content)
    path = f"/v1/jobs/{job_id}/model"
    with live.client.stream("GET", path) as answer:
        etag = answer.headers["etag"]
        half = next(answer.iter_bytes(10 * MEBIBYTE))
    headers = {"Range": f"bytes={len(half)}-", "If-Range": etag}
    rest = live.client.get(path, headers=headers)
    assert rest.status_code == 206
    assert half + rest.content == content
    assert etag.strip('"') == hashlib.sha256(content).hexdigest()


def test_events_replay_over_any_number_of_cuts(live: Live, tmp_path: Path) -> None:
    hand = Hand(live.store, tmp_path)
    job_id = queued_job(live, hand)
    worker = threading.Thread(target=_work_slowly, args=(hand,))
    worker.start()
    seen: list[int] = []
    while not seen or seen[-1] < 43:
        seen += _some_events(live, job_id, seen[-1] if seen else 0, most=5)
    worker.join()
    assert seen == list(range(1, 44))


def _work_slowly(hand: Hand) -> None:
    from api_schemas.events import ChildEvent, EventType

    claim = hand.claim(JobKind.PRUNE)
    for number in range(40):
        hand.store.jobs.record(claim, [ChildEvent(type=EventType.PROGRESS, data={"done": number})])
        time.sleep(0.01)
    hand.finish(claim)


def _some_events(live: Live, job_id: str, after: int, most: int) -> list[int]:
    """Read a few events and drop the connection."""
    found: list[int] = []
    headers = {"Last-Event-ID": str(after), "Accept": "text/event-stream"}
    with live.client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith("id: "):
                found.append(int(line[4:]))
            if len(found) == most:
                break
    return found


def test_sigterm_ends_open_streams_in_time(live: Live, tmp_path: Path) -> None:
    """The fixture asserts an orderly end without a traceback, with this stream still open."""
    job_id = queued_job(live, Hand(live.store, tmp_path))
    opened = threading.Event()

    def read() -> None:
        with live.client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            for _ in answer.iter_lines():
                opened.set()

    def follow() -> None:
        try:
            read()
        except httpx2.TransportError:
            return

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    assert opened.wait(20)


def test_an_unusable_setting_is_told_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service", "--port", "99999", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "port" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_lies_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKAHEAD_PORT", "1234")
    assert ServiceSettings().port == 1234
    assert ServiceSettings(port=4321).port == 4321
