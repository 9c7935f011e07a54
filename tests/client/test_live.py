"""The client against the real thing: `lookahead serve` with its API, its worker and a model to prune."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from api_schemas.events import EventType
from api_schemas.jobs import JobStatus
from client import (
    AsyncLookahead,
    ConflictError,
    InvalidRequestError,
    Lookahead,
    NotFoundError,
    UnauthorizedError,
)
from tests.client.models import save_data, save_mlp, sparsity

pytestmark = pytest.mark.slow

KEY = "k" * 32


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``m.onnx``, a small MLP, and ``d.npz``, labelled data for it."""
    place = tmp_path_factory.mktemp("files")
    save_mlp(place / "m.onnx")
    save_data(place / "d.npz")
    return place


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("serve")
    command = [sys.executable, "-m", "client.cli", "serve", "--port", "0", "--json"]
    command += ["--data-dir", str(place / "data"), "--ready-file", str(place / "ready")]
    environment = os.environ | {"LOOKAHEAD_API_KEYS": KEY, "OMP_NUM_THREADS": "1"}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        for _ in range(1200):
            if (place / "ready").exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            process.kill()
        assert process.poll() is None, (place / "log").read_text()
        yield (place / "ready").read_text().strip()
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=60)
    assert json.loads(stdout)["pid"] == process.pid
    assert process.returncode == 0


@pytest.fixture
def client(url: str) -> Iterator[Lookahead]:
    with Lookahead(url, KEY) as connection:
        yield connection


def test_one_call_from_file_to_file(client: Lookahead, files: Path, tmp_path: Path) -> None:
    heard: list[Any] = []
    job = client.prune(files / "m.onnx", preset="lookahead", sparsity=0.5, dataset=files / "d.npz")
    done = client.wait(job.id, timeout=120, on_event=lambda job_id, event: heard.append(event))
    assert done.status is JobStatus.SUCCEEDED, done.error
    assert [event.id for event in heard] == list(range(1, len(heard) + 1))
    assert {EventType.STATUS, EventType.STAGE} <= {event.type for event in heard}
    assert heard == client.events(job.id) == list(client.follow(job.id))
    report = client.report(job.id)
    path = client.download(job.id, tmp_path)
    assert report.after.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sparsity(path) == pytest.approx(0.5, abs=0.002)
    assert report.accuracy is not None
    assert "<html" in client.report_page(job.id)
    assert client.jobs(status=JobStatus.SUCCEEDED).items[0].id == job.id
    with pytest.raises(ConflictError):
        client.cancel(job.id)


def test_a_download_is_resumed_from_its_part(client: Lookahead, files: Path, tmp_path: Path) -> None:
    job = client.wait(client.prune(files / "m.onnx", preset="magnitude", sparsity=0.5).id, timeout=120)
    whole = client.download(job.id, tmp_path / "whole.onnx").read_bytes()
    digest = hashlib.sha256(whole).hexdigest()
    part = tmp_path / f"{job.id}.{digest}.part"
    part.write_bytes(whole[: len(whole) // 2])
    moved: list[int] = []
    client.download(job.id, tmp_path / "again.onnx", on_bytes=lambda done, total: moved.append(done))
    assert (tmp_path / "again.onnx").read_bytes() == whole
    assert moved[0] > len(whole) // 2
    assert not part.exists()


def test_upload_inspect_validate_submit_without_blocking(url: str, files: Path) -> None:
    async def run() -> None:
        async with AsyncLookahead(url, KEY) as client:
            model = await client.inspect((await client.upload_model(files / "m.onnx")).id, timeout=120)
            assert [layer.name for layer in model.layers or []] == ["w0", "w1", "w2"]
            data = await client.upload_dataset(files / "d.npz")
            assert (data.rows, data.has_targets) == (40, True)
            plan = await client.validate(model.id, preset="lookahead", sparsity=0.5)
            assert plan.valid
            assert len(plan.layers) == 3
            jobs = [await client.submit(model.id, sparsity=s, dataset_id=data.id) for s in (0.2, 0.4)]
            done = await client.wait([job.id for job in jobs], timeout=120)
            assert [job.status for job in done] == [JobStatus.SUCCEEDED] * 2
            assert {job.id for job in jobs} <= {job.id for job in (await client.jobs(limit=50)).items}
            assert model.id in {found.id for found in (await client.models()).items}
            assert "lookahead" in {preset.name for preset in await client.presets()}
            assert "magnitude" in {method.name for method in await client.methods()}

    anyio.run(run)


def test_refusals(client: Lookahead, url: str, tmp_path: Path, files: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(InvalidRequestError) as caught:
        client.upload_model(tmp_path / "m.onnx")
    assert caught.value.code == "unsupported_format"
    with pytest.raises(InvalidRequestError) as caught:
        client.prune(files / "m.onnx", recipe={"criterion": {"name": "nonsense"}}, sparsity=0.5)
    assert caught.value.code == "invalid_recipe"
    assert caught.value.errors
    with pytest.raises(NotFoundError):
        client.job("job_00000000000000000000000000")
    with Lookahead(url, "wrong") as stranger, pytest.raises(UnauthorizedError):
        stranger.jobs()
