"""How long a small job takes: over HTTP from upload to download, and what warm child and sandbox change.

The first table is what a user waits for. The second drives the supervisor directly: a cold child has to
import its libraries first, a warm one has done so while it waited; `off` leaves the sandbox away.
"""

import itertools
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from api_schemas.ids import new_model_id
from api_schemas.jobs import JobStatus
from api_schemas.models import ModelFormat
from api_schemas.recipe import Recipe, RecipeRequest, resolve
from benchmarks.output import markdown, note, parser, save, say
from client import Lookahead
from demo.serving import served
from store import Store, open_store
from store.records import JobKind, ModelRecord, NewJob
from worker.sandbox import SandboxMode
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor

_WIDTHS = (64, 128, 128, 10)


@final
@dataclass(frozen=True)
class Setting:
    """One way to run the job."""

    warm: bool
    sandbox: SandboxMode

    @property
    def name(self) -> str:
        """For the table."""
        return f"{'warm' if self.warm else 'cold'} child, sandbox {self.sandbox.value}"


def small_model(path: Path) -> Path:
    """A perceptron of 26,000 weights."""
    rng = np.random.default_rng(0)
    nodes, tensors, now_at = [], [], "x"
    for index, (ins, outs) in enumerate(itertools.pairwise(_WIDTHS)):
        weight = rng.standard_normal((outs, ins), np.float32)
        tensors.append(numpy_helper.from_array(weight, f"fc{index}.weight"))
        nodes.append(helper.make_node("Gemm", [now_at, f"fc{index}.weight"], [f"z{index}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"z{index}"], [f"a{index}"]))
        now_at = f"a{index}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
        for name, width in (("x", _WIDTHS[0]), (now_at, _WIDTHS[-1]))
    ]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def over_http(folder: Path, model: Path, rounds: int, pause: float) -> list[float]:
    """Seconds from the first byte sent to the last received, one job after the other, with pauses between."""
    seconds = []
    with served(folder / "service") as service, Lookahead(service.url) as client:
        for index in range(rounds):
            time.sleep(pause)
            begun = time.perf_counter()
            job = client.wait(client.prune(model, preset="lookahead", sparsity=0.8).id)
            if job.status is not JobStatus.SUCCEEDED:
                raise RuntimeError(f"the job ended as {job.status.value}: {job.error}")
            client.download(job.id, folder / f"{index}.onnx")
            seconds.append(time.perf_counter() - begun)
            note(f"over HTTP: {seconds[-1]:.2f} s")
    return seconds


def supervised(folder: Path, model: Path, setting: Setting, pause: float) -> float:
    """Seconds that a supervisor takes for one queued job."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        settings = WorkerSettings(data_dir=Path(name), sandbox=setting.sandbox)
        store = open_store(settings)
        supervisor = Supervisor(store, settings)
        try:
            if setting.warm:
                supervisor.prepare()
                time.sleep(pause)
            job = _queued(store, model)
            begun = time.perf_counter()
            supervisor.drain(job)
            took = time.perf_counter() - begun
            if store.jobs.get(job).status is not JobStatus.SUCCEEDED:
                raise RuntimeError(f"the job failed: {store.jobs.get(job).error}")
        finally:
            supervisor.close()
            store.close()
    note(f"{setting.name}: {took:.2f} s")
    return took


def _queued(store: Store, model: Path) -> str:
    upload = store.blobs.staging_dir() / "small.onnx"
    upload.write_bytes(model.read_bytes())
    blob = store.blobs.publish(upload, "small.onnx")
    record = ModelRecord(
        new_model_id(),
        blob.sha256,
        ModelFormat.ONNX,
        blob.filename,
        blob.size_bytes,
        created_at=datetime.now(UTC),
    )
    store.models.add(record)
    return store.jobs.submit(NewJob(JobKind.PRUNE, record.id, recipe=_recipe())).job.id


def _recipe() -> Recipe:
    return resolve(RecipeRequest.model_validate({"target": {"sparsity": 0.8}}), {})


def main() -> int:
    """Measure both and show them."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument(
        "--pause", type=float, default=10.0, help="seconds for the spare child to get ready"
    )
    options = arguments.parse_args()
    settings = [
        Setting(warm, mode) for mode in (SandboxMode.STRICT, SandboxMode.OFF) for warm in (True, False)
    ]
    times: dict[str, list[float]] = {"over HTTP, upload to download": []}
    with tempfile.TemporaryDirectory(prefix="job-latency-") as name:
        folder = Path(name)
        model = small_model(folder / "small.onnx")
        times["over HTTP, upload to download"] = over_http(folder, model, options.rounds, options.pause)
        for _ in range(options.rounds):
            for setting in settings:
                times.setdefault(setting.name, []).append(supervised(folder, model, setting, options.pause))
    rows = [
        (label, f"{statistics.median(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}")
        for label, values in times.items()
    ]
    say(markdown((f"{options.rounds} jobs each", "median s", "min", "max"), rows))
    save(options.json, {"seconds": times})
    return 0


if __name__ == "__main__":
    sys.exit(main())
