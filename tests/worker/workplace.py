"""A store with a supervisor on it, whose children run the scripted engine."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from api_schemas.events import Event
from api_schemas.ids import new_model_id
from api_schemas.models import ModelFormat
from api_schemas.recipe import Recipe, RecipeRequest, Target, resolve
from store import Store, open_store
from store.records import JobKind, JobRecord, ModelRecord, NewJob
from worker.process import Launch
from worker.settings import WorkerSettings
from worker.supervisor import Supervisor, launch_of

ENGINES = Path(__file__).parent / "engines"
SCRIPTED = "scripted_engine:run_order"


def settings_for(folder: Path, **changes: Any) -> WorkerSettings:
    """Settings with an embedded store in `folder` and short times."""
    values: dict[str, Any] = {"data_dir": folder, "sweep_seconds": 0.5, "threads": 1, "lease_seconds": 10}
    return WorkerSettings(**{**values, **changes})


def scripted(settings: WorkerSettings, launch: Callable[[WorkerSettings], Launch] = launch_of) -> Launch:
    """How to start children that run the scripted engine."""
    environment = {"PYTHONPATH": str(ENGINES)}
    return replace(launch(settings), engine=SCRIPTED, preload="", environment=environment)


def small_onnx() -> bytes:
    """A one-layer model."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 2], [1.0, 2.0, 3.0, 4.0])
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", tensors[:1], tensors[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def recipe(sparsity: float = 0.5) -> Recipe:
    """Everything by default."""
    return resolve(RecipeRequest(target=Target(sparsity=sparsity)), {})


@dataclass(frozen=True)
class Workplace:
    """A store and settings; jobs are submitted here and looked at here."""

    store: Store
    settings: WorkerSettings

    def add_model(
        self, filename: str, content: bytes, format_: ModelFormat = ModelFormat.ONNX
    ) -> ModelRecord:
        """Publish and register a file."""
        path = self.settings.data_dir / f"upload-{os.urandom(4).hex()}"
        path.write_bytes(content)
        blob = self.store.blobs.publish(path, filename)
        record = ModelRecord(new_model_id(), blob.sha256, format_, filename, len(content), datetime.now(UTC))
        return self.store.models.add(record)

    def submit(
        self, behaviour: str, kind: JobKind = JobKind.PRUNE, *, max_attempts: int = 3, **new: Any
    ) -> JobRecord:
        """Queue a job whose child behaves as told."""
        model = self.add_model(f"{behaviour}.onnx", small_onnx())
        return self.submit_for(model, kind, max_attempts=max_attempts, **new)

    def submit_for(self, model: ModelRecord, kind: JobKind = JobKind.PRUNE, **new: Any) -> JobRecord:
        """Queue a job on a model."""
        wanted = None if kind is JobKind.INSPECT else recipe()
        return self.store.jobs.submit(NewJob(kind, model.id, recipe=wanted, **new)).job

    def job(self, job: JobRecord) -> JobRecord:
        """The job as it is now."""
        return self.store.jobs.get(job.id)

    def events(self, job: JobRecord) -> tuple[Event, ...]:
        """Everything it said."""
        return self.store.jobs.events(job.id, limit=10_000)

    def wait_for(self, job: JobRecord, when: Callable[[JobRecord], bool], seconds: float = 60) -> JobRecord:
        """The job as soon as `when` holds of it; fails after that time."""
        deadline = time.monotonic() + seconds
        while not when(present := self.job(job)):
            assert time.monotonic() < deadline, f"still {present}"
            time.sleep(0.02)
        return present

    def wait_finished(self, job: JobRecord, seconds: float = 60) -> JobRecord:
        """The job once it has ended."""
        return self.wait_for(job, lambda present: present.status.finished, seconds)

    def scratch_left(self) -> list[str]:
        """What lies in the scratch folder, by name."""
        scratch = self.settings.scratch
        return [path.name for path in scratch.iterdir()] if scratch.exists() else []


@contextmanager
def open_workplace(folder: Path, **changes: Any) -> Iterator[Workplace]:
    """A store in a folder."""
    settings = settings_for(folder, **changes)
    store = open_store(settings)
    try:
        yield Workplace(store, settings)
    finally:
        store.close()


@contextmanager
def supervising(place: Workplace, launch: Launch | None = None) -> Iterator[Supervisor]:
    """A supervisor in this process; its children are gone when the block ends."""
    supervisor = Supervisor(place.store, place.settings, launch or scripted(place.settings))
    try:
        yield supervisor
    finally:
        supervisor.close()


def digest(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return sha256(content).hexdigest()
