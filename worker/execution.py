"""One job in one child, or in several that train together: order in, events out, a verdict at the end."""

import logging
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from api_schemas.datasets import DatasetFormat
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import CheckpointOrder, ChildOrder, Stage
from api_schemas.models import ModelFormat
from store import Store
from store.errors import BlobError
from store.records import DatasetRecord, JobKind, JobRecord, ModelRecord
from worker.checkpoints import CheckpointKeeper, Say, saved_event
from worker.crew import Crew
from worker.devices import device
from worker.errors import BrokenProtocolError
from worker.lease import Lease, now
from worker.logs import log
from worker.nursery import Nursery
from worker.process import ChildProcess
from worker.protocol import ChildMessage, ChildStart
from worker.relay import MOST_EVENTS, clean_event
from worker.sandbox.limits import Limits
from worker.settings import WorkerSettings
from worker.verdict import Observed
from worker.watch import Room, StopReason, Watch, allowance

_TICK_SECONDS: Final = 0.1
_LAST_WORDS_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 5.0
HURRY: Final = signal.SIGUSR1
_PARTING_SECONDS: Final = 5.0
_MODEL_SUFFIX: Final = {ModelFormat.ONNX: ".onnx", ModelFormat.TORCHSCRIPT: ".pt", ModelFormat.PT2: ".pt2"}
_DATASET_SUFFIX: Final = {
    DatasetFormat.NPZ: ".npz",
    DatasetFormat.SAFETENSORS: ".safetensors",
    DatasetFormat.PARQUET: ".parquet",
    DatasetFormat.IMAGES: ".zip",
}


@dataclass(frozen=True)
class Inputs:
    """What a job works on."""

    job: JobRecord
    model: ModelRecord
    dataset: DatasetRecord | None


def load_inputs(store: Store, job: JobRecord) -> Inputs:
    """The rows that a job names. Raises `NotFoundError`."""
    dataset = None if job.dataset_id is None else store.datasets.get(job.dataset_id)
    return Inputs(job, store.models.get(job.model_id), dataset)


def processes_of(inputs: Inputs, settings: WorkerSettings) -> int:
    """How many processes a job gets: several where something may be trained, for all else each would do
    for itself what the others do."""
    job = inputs.job
    heals = job.recipe is not None and job.recipe.recovery.name != "none"
    return settings.devices if job.kind is JobKind.PRUNE and heals and inputs.dataset is not None else 1


def write_order(
    store: Store, inputs: Inputs, child: ChildProcess, settings: WorkerSettings, say: Say
) -> ChildOrder:
    """Copy the files into the child's directory, under names of ours, and say what to do with them.

    `say` is for what the user should know of the checkpoint. Processes share the threads of a job.
    """
    folder = child.directory.input
    model = folder / f"model{_MODEL_SUFFIX[inputs.model.format]}"
    store.blobs.fetch(inputs.model.sha256, model)
    dataset = None if inputs.dataset is None else _fetch_dataset(store, inputs.dataset, folder)
    job = inputs.job
    return ChildOrder(
        kind=job.kind.value,
        job_id=job.id,
        model=f"input/{model.name}",
        filename=inputs.model.filename,
        dataset=dataset,
        recipe=job.recipe,
        inputs=job.inputs,
        device=device(),
        threads=max(1, settings.threads // processes_of(inputs, settings)),
        sandbox=(child.ready and child.ready.ready) or "off",
        checkpoints=_checkpoint_order(store, job, folder, settings, say)
        if job.kind is JobKind.PRUNE
        else None,
    )


def _checkpoint_order(
    store: Store, job: JobRecord, folder: Path, settings: WorkerSettings, say: Say
) -> CheckpointOrder:
    return CheckpointOrder(
        folder="checkpoint",
        interval_seconds=settings.checkpoint_seconds,
        most_bytes=settings.max_checkpoint_bytes,
        saved=_fetch_checkpoint(store, job, folder, say),
        hurry=HURRY,
    )


def _fetch_checkpoint(store: Store, job: JobRecord, folder: Path, say: Say) -> str | None:
    """What the attempt before saved, if it can be had: without it the job starts over."""
    if job.checkpoint is None:
        return None
    path = folder / "checkpoint.zip"
    try:
        store.checkpoints.fetch(job.id, job.checkpoint.sha256, path)
    except BlobError as error:
        log("checkpoint lost", level=logging.WARNING, job=job.id, reason=str(error))
        message = "The checkpoint of the attempt before cannot be read; the job starts over."
        say(ChildEvent(type=EventType.WARNING, data={"message": message}))
        return None
    say(saved_event("resumed", job.checkpoint.size_bytes))
    return f"input/{path.name}"


def _fetch_dataset(store: Store, dataset: DatasetRecord, folder: Path) -> str:
    path = folder / f"dataset{_DATASET_SUFFIX[dataset.format]}"
    store.blobs.fetch(dataset.sha256, path)
    return f"input/{path.name}"


def job_limits(settings: WorkerSettings, processes: int = 1) -> Limits:
    """The limits of each child of a job. Processor time is a backstop: the deadline counted on every
    thread."""
    return Limits(
        cpu_seconds=int(settings.job_seconds * (settings.threads + 1)) + 60,
        memory_bytes=None if device() == "cuda" else settings.memory_bytes // processes,
        file_bytes=max(settings.max_output_bytes, settings.max_checkpoint_bytes),
    )


@final
class Execution:
    """Attends the children of one job until they have ended."""

    def __init__(
        self,
        crew: Crew,
        lease: Lease,
        settings: WorkerSettings,
        shutdown: threading.Event,
        nursery: Nursery,
        keeper: CheckpointKeeper,
    ) -> None:
        self._crew, self._lease, self._nursery, self._keeper = crew, lease, nursery, keeper
        self._child, self._settings = crew.leader, settings
        allowed = allowance(settings, len(crew.members))
        rooms = [Room(member.pid, member.directory, allowed) for member in crew.members]
        self._watch = Watch(rooms, allowed, lease, shutdown)
        self._events = 0

    def run(self, start: ChildStart) -> Observed:
        """Hand over the order and see it through. The children are gone when this returns."""
        self._crew.send(start, self._settings.job_seconds)
        try:
            stopped = self._attend()
        finally:
            self._nursery.resume()
        ended = self._child if stopped is not None else self._cause()
        self._crew.stop(0 if stopped is StopReason.LEASE else GRACE_SECONDS)
        status = ended.returncode
        return Observed(ended.result, 0 if status is None else status, stopped, ended.log_tail)

    def _cause(self) -> ChildProcess:
        try:
            return self._crew.cause()
        except BrokenProtocolError:
            return self._child

    def _attend(self) -> StopReason | None:
        """Listen until the child is done (None) or has to be stopped."""
        while self._child.result is None and not self._done() and not self._crew.broken:
            reason = self._listen() or self._watch.reason()
            if reason is StopReason.SHUTDOWN and self._keeper.offers:
                self._wait_for_checkpoint()
            if reason is not None:
                return reason
        return None if self._crew.broken else self._let_leave()

    def _wait_for_checkpoint(self) -> None:
        """A child that saves where it has come to gets a moment to do so once more before it is stopped."""
        self._child.signal_group(HURRY)
        offers, end = self._keeper.offers, now() + _PARTING_SECONDS
        while self._keeper.offers == offers and not self._done() and now() < end and not self._lease.expired:
            if self._listen() is not None:
                return

    def _let_leave(self) -> StopReason | None:
        """A child that has given its result has a moment to exit, and so has one that closed its pipes."""
        end = now() + _LAST_WORDS_SECONDS
        while self._child.returncode is None and now() < end:
            if self._child.silent:
                time.sleep(_TICK_SECONDS / 10)
            elif (reason := self._listen()) is not None:
                return reason
        return None

    def _done(self) -> bool:
        return self._child.silent and self._child.returncode is not None

    def _listen(self) -> StopReason | None:
        try:
            for message in self._crew.listen(_TICK_SECONDS):
                self._take(message)
        except BrokenProtocolError:
            return StopReason.PROTOCOL
        return None

    def _take(self, message: ChildMessage) -> None:
        if message.event is None:
            return
        if message.event.type is EventType.CHECKPOINT:
            self._watch.progressed()
            self._keeper.offer(str(message.event.data.get("file", "")))
            return
        event = clean_event(message.event)
        if event is None:
            return
        self._watch.progressed()
        self._note_stage(event)
        self._events += 1
        if self._events < MOST_EVENTS or event.type is EventType.STAGE:
            self._lease.add(event)
        elif self._events == MOST_EVENTS:
            self._lease.add(
                ChildEvent(type=EventType.WARNING, data={"message": "There were more events than are kept."})
            )

    def _note_stage(self, event: ChildEvent) -> None:
        """Measurements are made on a quiet machine, as far as that is ours to say."""
        if event.type is not EventType.STAGE:
            return
        if event.data["stage"] == Stage.MEASURING.value:
            self._nursery.hush()
        else:
            self._nursery.resume()
