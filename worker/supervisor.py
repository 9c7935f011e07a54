"""The supervisor: claims a job, runs it in a child, publishes what comes of it. Never loads a model itself.

Execution is at least once, publication exactly once: every write carries the claim's fencing token, and a
supervisor that cannot say whether it still holds the lease stops its child and writes nothing.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import ChildResult, Stage
from api_schemas.models import ModelFormat
from store import Store
from store.errors import BlobError, NotFoundError, StaleClaimError, StoreError, UnavailableError
from store.records import Claim, JobKind, JobRecord, Outcome
from worker import failpoints
from worker.artefacts import Artefacts
from worker.checkpoints import CheckpointKeeper
from worker.crew import Crew
from worker.devices import cuda_devices, cuda_visible
from worker.errors import ChildStartError, RejectedOutputError, SandboxUnavailableError
from worker.execution import Execution, Inputs, job_limits, load_inputs, processes_of, write_order
from worker.lease import Lease, now
from worker.logs import log
from worker.nursery import Nursery
from worker.process import ChildProcess, Launch
from worker.protocol import ChildStart
from worker.settings import WorkerSettings
from worker.verdict import Abandoned, Cancelled, Failed, Released, Succeeded, Verdict, judge

_RETRY_SECONDS: Final = 0.5


def launch_of(settings: WorkerSettings) -> Launch:
    """How this worker starts its children."""
    return Launch(
        scratch=settings.scratch,
        sandbox=settings.sandbox,
        cuda=cuda_visible(),
        threads=settings.threads,
        processes=settings.devices,
        devices=cuda_devices()[: settings.devices] if settings.devices > 1 else (),
    )


@final
class Supervisor:
    """Runs one job at a time. `run` and `drain` may be called from several threads; they take turns."""

    def __init__(self, store: Store, settings: WorkerSettings, launch: Launch | None = None) -> None:
        self._store, self._settings = store, settings
        self._nursery = Nursery(launch or launch_of(settings))
        self._artefacts = Artefacts(store.blobs, settings.max_output_bytes)
        self._turn = threading.Lock()
        self._shutdown = threading.Event()

    @property
    def stopping(self) -> bool:
        """True once `stop` has been called."""
        return self._shutdown.is_set()

    def prepare(self) -> None:
        """Warm a child, so that the first job need not wait for its libraries."""
        with self._turn:
            self._nursery.prepare()

    def stop(self) -> None:
        """Claim no more; the running job, if any, goes back to the queue. Safe in a signal handler."""
        self._shutdown.set()

    def close(self) -> None:
        """Stop, wait for the running job to be given back, and end the spare child."""
        self.stop()
        with self._turn:
            self._nursery.close()

    def drain(self, job_id: str | None = None, *, wait: bool = True) -> int:
        """Run `job_id`, if it is queued, and then whatever is, until nothing is; the number of jobs run.

        With `wait` false it does nothing while another thread is at it. Raises `UnavailableError`.
        """
        if not self._turn.acquire(blocking=wait):
            return 0
        try:
            ran = int(job_id is not None and self._run_next(job_id))
            while self._run_next(None):
                ran += 1
        finally:
            self._turn.release()
        return ran

    def wait(self, seconds: float) -> bool:
        """Wait for `stop`, at most so long; True when it was called."""
        return self._shutdown.wait(seconds)

    def _run_next(self, job_id: str | None) -> bool:
        if self.stopping:
            return False
        claimed_at = now()
        taken = self._settings.job_kinds
        claim = self._store.jobs.claim(self._settings.worker_name, job_id=job_id, kinds=taken)
        if claim is None:
            return False
        log(
            "claimed",
            job=claim.job.id,
            kind=claim.job.kind.value,
            attempt=claim.job.attempts,
            token=claim.token,
        )
        failpoints.reach("supervisor.claimed")
        self._run_claim(claim, claimed_at)
        return True

    def _run_claim(self, claim: Claim, claimed_at: float) -> None:
        seconds = self._settings.lease_seconds
        with Lease(self._store.jobs, claim, claimed_at=claimed_at, seconds=seconds) as lease:
            ending = self._attempt(claim, lease)
            lease.end()
            self._settle(claim, lease, ending)

    def _attempt(self, claim: Claim, lease: Lease) -> Outcome | Verdict:
        """Everything up to the terminal write. Whatever goes wrong becomes a verdict."""
        try:
            inputs = load_inputs(self._store, claim.job)
            if inputs.model.format is ModelFormat.TORCHSCRIPT and not self._settings.torchscript_enabled:
                return _failed(ErrorCode.UNSUPPORTED_FORMAT, "TorchScript is switched off on this service.")
            return self._in_child(inputs, lease)
        except RejectedOutputError as error:
            log("output rejected", job=claim.job.id, reason=str(error))
            return _failed(ErrorCode.INTERNAL, f"The result was refused: {error}.")
        except NotFoundError:
            return _failed(ErrorCode.NOT_FOUND, "The model or dataset of the job is gone.")
        except (SandboxUnavailableError, ChildStartError) as error:
            log("no child", level=logging.ERROR, job=claim.job.id, reason=str(error))
            return _failed(ErrorCode.INTERNAL, "No process could be started for the job.", retry=True)
        except BlobError as error:
            log("blob store", level=logging.ERROR, job=claim.job.id, reason=str(error))
            return _failed(ErrorCode.INTERNAL, "A file could not be read or stored.", retry=True)
        except Exception:
            log("supervisor failed", level=logging.ERROR, job=claim.job.id, exc_info=True)
            return _failed(ErrorCode.INTERNAL, "The worker failed in a way it should not.", retry=True)

    def _in_child(self, inputs: Inputs, lease: Lease) -> Outcome | Verdict:
        crew = self._nursery.take(several=processes_of(inputs, self._settings) > 1)
        try:
            self._nursery.prepare()
            verdict = self._execute(crew, inputs, lease)
            if not isinstance(verdict, Succeeded):
                return verdict
            return self._publish(crew.leader, inputs, verdict.result, lease)
        finally:
            crew.close()

    def _execute(self, crew: Crew, inputs: Inputs, lease: Lease) -> Verdict:
        lease.add(_stage(Stage.STARTING))
        order = write_order(self._store, inputs, crew.leader, self._settings, lease.add)
        limits = job_limits(self._settings, len(crew.members))
        failpoints.reach("supervisor.child_started")
        with self._keeping(crew.leader, lease) as keeper:
            execution = Execution(crew, lease, self._settings, self._shutdown, self._nursery, keeper)
            observed = execution.run(ChildStart(order=order, limits=limits))
            verdict = judge(observed)
            keeper.end(keep=_goes_on(verdict))
        stopped = None if observed.stopped is None else observed.stopped.value
        log("child ended", job=inputs.job.id, status=observed.returncode, stopped=stopped)
        if isinstance(verdict, Failed) and observed.log_tail:
            log("child log", job=inputs.job.id, tail=observed.log_tail[-8000:])
        return verdict

    @contextmanager
    def _keeping(self, child: ChildProcess, lease: Lease) -> Iterator[CheckpointKeeper]:
        """A keeper for the child's checkpoints. Faster than twice in an interval no child is followed."""
        settings = self._settings
        keeper = CheckpointKeeper(
            self._store,
            lease.claim,
            child.directory,
            settings.max_checkpoint_bytes,
            settings.checkpoint_seconds / 2,
            lease.add,
        )
        try:
            yield keeper
        finally:
            keeper.end(keep=False)

    def _publish(
        self, child: ChildProcess, inputs: Inputs, result: ChildResult, lease: Lease
    ) -> Outcome | Verdict:
        lease.add(_stage(Stage.PUBLISHING))
        failpoints.reach("supervisor.before_publish")
        outcome = self._artefacts.outcome(inputs.job, inputs.model, result, child.directory.output)
        failpoints.reach("supervisor.published")
        return Abandoned() if lease.lost else outcome

    def _settle(self, claim: Claim, lease: Lease, ending: Outcome | Verdict) -> None:
        """Write the end of the attempt, as long as the lease is ours and the database may come back."""
        failpoints.reach("supervisor.before_finish")
        while not isinstance(ending, Abandoned):
            try:
                self._write_end(claim, ending)
            except StaleClaimError:
                log("write refused: the lease has passed on", job=claim.job.id, token=claim.token)
            except UnavailableError as error:
                if not lease.expired:
                    time.sleep(_RETRY_SECONDS)
                    continue
                log("end not written", level=logging.ERROR, job=claim.job.id, reason=str(error))
            except Exception:  # the store cannot keep this end; it can keep a plain one
                log("end refused by the store", level=logging.ERROR, job=claim.job.id, exc_info=True)
                if ending != _UNWRITABLE:
                    ending = _UNWRITABLE
                    continue
            else:
                failpoints.reach("supervisor.finished")
            return
        log("abandoned", job=claim.job.id, token=claim.token)

    def _forget_checkpoints(self, job: JobRecord) -> None:
        """A job that has ended needs none. What stays behind goes with the next collection of garbage."""
        if job.kind is not JobKind.PRUNE or not job.status.finished:
            return
        try:
            self._store.checkpoints.discard(job.id)
        except StoreError as error:
            log("checkpoints not removed", job=job.id, reason=str(error))

    def _write_end(self, claim: Claim, ending: Outcome | Verdict) -> None:
        jobs = self._store.jobs
        match ending:
            case Outcome():
                self._forget_checkpoints(jobs.finish(claim, ending))
                log("succeeded", job=claim.job.id)
            case Failed(error, retry):
                ended = jobs.fail(claim, error, retry=retry)
                self._forget_checkpoints(ended)
                log(
                    "failed",
                    job=claim.job.id,
                    code=error.code.value,
                    reason=error.message,
                    then=ended.status.value,
                )
            case Cancelled():
                self._forget_checkpoints(jobs.cancelled(claim))
                log("cancelled", job=claim.job.id)
            case Released():
                jobs.release(claim)
                log("released", job=claim.job.id)


def _goes_on(verdict: Verdict) -> bool:
    """Whether another attempt may take up what this one has saved."""
    return isinstance(verdict, Released) or (isinstance(verdict, Failed) and verdict.retry)


def _failed(code: ErrorCode, message: str, *, retry: bool = False) -> Failed:
    return Failed(JobError(code=code, message=message), retry)


_UNWRITABLE: Final = _failed(ErrorCode.INTERNAL, "The result could not be written down.")


def _stage(stage: Stage) -> ChildEvent:
    return ChildEvent(type=EventType.STAGE, data={"stage": stage.value})
