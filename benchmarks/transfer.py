"""A 2 GB model up and down through the API: throughput against `cp`, and how far the API's memory grows.

The upload is a zip of an ONNX file and its external data, random bytes that nothing can compress. No
worker runs: the benchmark itself ends a job with the uploaded file as its result, so that there is
something to download. Exit 1 when the API's memory grew by 64 MB or more.
"""

import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import httpx2
import numpy as np
from onnx import TensorProto, helper

from api_schemas.models import Model
from benchmarks.output import markdown, note, parser, save, say
from client import Lookahead
from client.launcher import free_port
from store import open_store
from store.records import BlobRef, JobKind, NewJob, Outcome
from store.settings import StoreSettings

_MEMORY_LIMIT = 64 * 10**6
_ROWS = 1 << 18
_READY_SECONDS = 60.0


@final
@dataclass(frozen=True)
class Transfer:
    """One way. `growth` is by how many bytes the API's resident memory went beyond what it was before."""

    name: str
    seconds: float
    growth: int | None = None


@final
@dataclass(frozen=True)
class Api:
    """A running API process over a store of its own."""

    url: str
    pid: int

    def memory(self, field: str) -> int:
        """Resident bytes now (`VmRSS`) or at most since the last `forget` (`VmHWM`)."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024

    def forget(self) -> None:
        """Let the peak begin again at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@contextmanager
def api(data_dir: Path) -> Iterator[Api]:
    """The API alone, without a worker."""
    port = free_port("127.0.0.1", 0)
    command = [sys.executable, "-m", "service", "--port", str(port), "--data-dir", str(data_dir)]
    with (data_dir.parent / "service.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url, process)
        yield Api(url, process.pid)
    finally:
        process.terminate()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(f"{url}/livez", trust_env=False).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.2)
    raise RuntimeError("the API did not start")


def big_model(folder: Path, size: int) -> Path:
    """A zip, stored, of an ONNX file with one matrix of about `size` bytes in its data file."""
    columns = size // (4 * _ROWS)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[_ROWS, columns])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", _ROWS), ("y", columns))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [tensor]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "big.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model.onnx", model.SerializeToString())
        with archive.open("weights.bin", "w", force_zip64=True) as data:
            for _ in range(columns):
                data.write(rng.bytes(4 * _ROWS))
    return path


def finished_job(data_dir: Path, model: Model) -> str:
    """A job that has succeeded with the uploaded file as its result; its id."""
    store = open_store(StoreSettings(data_dir=data_dir))
    try:
        job = store.jobs.submit(NewJob(JobKind.PRUNE, model.id)).job
        claim = store.jobs.claim("benchmark", job_id=job.id)
        assert claim is not None
        store.jobs.finish(claim, Outcome(model=BlobRef(model.sha256, model.size_bytes, model.filename)))
    finally:
        store.close()
    return job.id


def measure(folder: Path, size: int) -> tuple[int, list[Transfer]]:
    """Copy, upload, download; the file's size and the transfers."""
    source = big_model(folder, size)
    note(f"{source.stat().st_size:,} bytes are ready")
    transfers = [_copy(source, folder / "copy.zip")]
    data_dir = folder / "data"
    with api(data_dir) as running, Lookahead(running.url) as client:
        client.models()
        before = running.memory("VmRSS")
        running.forget()
        begun = time.perf_counter()
        model = client.upload_model(source)
        transfers.append(_transfer("upload", begun, running, before))
        job_id = finished_job(data_dir, model)
        running.forget()
        begun = time.perf_counter()
        client.download(job_id, folder / "down.zip")
        transfers.append(_transfer("download", begun, running, before))
    return source.stat().st_size, transfers


def _copy(source: Path, target: Path) -> Transfer:
    begun = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    took = time.perf_counter() - begun
    target.unlink()
    return Transfer("cp", took)


def _transfer(name: str, begun: float, running: Api, before: int) -> Transfer:
    return Transfer(name, time.perf_counter() - begun, running.memory("VmHWM") - before)


def main() -> int:
    """Measure and judge."""
    arguments = parser(__doc__)
    arguments.add_argument("--bytes", type=int, default=2 * 10**9)
    arguments.add_argument("--folder", type=Path, help="where to work; it takes four times the size")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="transfer-", dir=options.folder) as name:
        size, transfers = measure(Path(name), options.bytes)
    rows = [
        (
            transfer.name,
            f"{transfer.seconds:.2f}",
            f"{size / transfer.seconds / 1e6:,.0f}",
            "" if transfer.growth is None else f"{transfer.growth / 1e6:.1f}",
        )
        for transfer in transfers
    ]
    say(f"{size:,} bytes; both directions hash the file at both ends")
    say(markdown(("", "s", "MB/s", "growth of the API's memory, MB"), rows))
    save(options.json, {"bytes": size, "transfers": [asdict(transfer) for transfer in transfers]})
    return 0 if all((transfer.growth or 0) < _MEMORY_LIMIT for transfer in transfers) else 1


if __name__ == "__main__":
    sys.exit(main())
