"""What became of a job, told from how its child ended."""

import re
import signal
from dataclasses import dataclass
from typing import Final

from api_schemas.errors import ERRORS, ErrorCode, JobError
from api_schemas.jobs import ChildResult
from worker.relay import clean_text
from worker.watch import StopReason


@dataclass(frozen=True)
class Observed:
    """The end of a child: its result if it gave one, its exit status, and why we stopped it if we did."""

    result: ChildResult | None
    returncode: int
    stopped: StopReason | None = None
    log_tail: str = ""


@dataclass(frozen=True)
class Succeeded:
    """There is a result to look at."""

    result: ChildResult


@dataclass(frozen=True)
class Failed:
    """There is none; `retry` when another attempt may fare better."""

    error: JobError
    retry: bool = False


@dataclass(frozen=True)
class Cancelled:
    """The user asked for it."""


@dataclass(frozen=True)
class Released:
    """The worker shuts down: back to the queue, attempt not counted."""


@dataclass(frozen=True)
class Abandoned:
    """The lease is over: the job is no longer ours to write to."""


Verdict = Succeeded | Failed | Cancelled | Released | Abandoned

_MEMORY: Final = re.compile(
    r"bad_alloc|bad allocation|out of memory|(?:cannot|can't|failed to|could not) allocate|not enough memory"
    r"|\bENOMEM\b",
    re.IGNORECASE,
)
_DENIED: Final = re.compile(r"permission denied|operation not permitted|\bEACCES\b|\bEPERM\b", re.IGNORECASE)
#: Codes that say no more than that it did not work; the text may know better.
_VAGUE: Final = (ErrorCode.INTERNAL, ErrorCode.INVALID_MODEL, ErrorCode.UNSUPPORTED_FORMAT)
#: Codes that a child may report; the others are the service's own.
_CHILD_CODES: Final = frozenset(
    {
        *_VAGUE,
        *(ErrorCode.INVALID_RECIPE, ErrorCode.NEEDS_DATASET, ErrorCode.NEEDS_INPUTS, ErrorCode.NEEDS_LABELS),
        *(ErrorCode.INVALID_DATASET, ErrorCode.PICKLED_DATA, ErrorCode.WRONG_DTYPE, ErrorCode.NOT_FINITE),
        *(ErrorCode.TOO_FEW_ROWS, ErrorCode.LABELS_OUT_OF_RANGE),
        *(ErrorCode.INVALID_DATASET, ErrorCode.PICKLED_DATA, ErrorCode.WRONG_DTYPE, ErrorCode.NOT_FINITE),
        *(ErrorCode.TOO_FEW_ROWS, ErrorCode.LABELS_OUT_OF_RANGE),
        *(ErrorCode.PAYLOAD_TOO_LARGE, ErrorCode.OUT_OF_MEMORY, ErrorCode.SANDBOX_VIOLATION),
    }
)
_STOPPED: Final[dict[StopReason, Verdict]] = {
    StopReason.CANCELLED: Cancelled(),
    StopReason.SHUTDOWN: Released(),
    StopReason.LEASE: Abandoned(),
    StopReason.JOB_TIME: Failed(
        JobError(
            code=ErrorCode.TIME_LIMIT,
            message="The job took longer than one attempt may take.",
            hint="Ask for fewer steps or rounds, or the operator for a larger LOOKAHEAD_JOB_SECONDS.",
        )
    ),
    StopReason.SILENCE: Failed(
        JobError(code=ErrorCode.TIME_LIMIT, message="The job made no progress for longer than a stage may.")
    ),
    StopReason.MEMORY: Failed(
        JobError(code=ErrorCode.OUT_OF_MEMORY, message="The job needed more memory than a worker gives.")
    ),
    StopReason.DISK: Failed(
        JobError(code=ErrorCode.PAYLOAD_TOO_LARGE, message="The job wrote more to disk than a job may.")
    ),
    StopReason.PROTOCOL: Failed(
        JobError(code=ErrorCode.SANDBOX_VIOLATION, message="The job's process wrote what is no message.")
    ),
}


def judge(observed: Observed) -> Verdict:
    """Our own reason to stop the child comes first, then its result, then the signal that ended it."""
    if observed.stopped is not None:
        return _STOPPED[observed.stopped]
    if observed.result is None:
        return _crashed(observed)
    if observed.result.error is not None:
        if observed.result.error.code is ErrorCode.WORKER_LOST:  # one of several lost another
            return _failed(ErrorCode.WORKER_LOST, "A process of the job ended.", retry=True)
        return Failed(child_error(observed.result.error, observed.log_tail))
    return Succeeded(observed.result)


def child_error(error: JobError, log_tail: str = "") -> JobError:
    """A child's error as users may see it: one of its codes, sharpened by its text, the text made safe.

    An error that the engine did not expect says nothing itself; its traceback is in the log.
    """
    code = error.code if error.code in _CHILD_CODES else ErrorCode.INTERNAL
    told = f"{error.message}\n{log_tail}" if code is ErrorCode.INTERNAL else error.message
    if code in _VAGUE and _DENIED.search(told):
        code = ErrorCode.SANDBOX_VIOLATION
    elif code in _VAGUE and _MEMORY.search(told):
        code = ErrorCode.OUT_OF_MEMORY
    hint = None if error.hint is None else clean_text(error.hint)
    return JobError(code=code, message=clean_text(error.message) or ERRORS[code][2], hint=hint)


def _crashed(observed: Observed) -> Failed:
    """The child ended without a result."""
    match -observed.returncode:
        case signal.SIGSYS:
            return _failed(ErrorCode.SANDBOX_VIOLATION, "The job's process made a forbidden system call.")
        case signal.SIGXCPU:
            return _failed(ErrorCode.TIME_LIMIT, "The job used more processor time than a job may.")
        case signal.SIGABRT | signal.SIGSEGV if _MEMORY.search(observed.log_tail):
            return _failed(ErrorCode.OUT_OF_MEMORY, "The job needed more memory than a worker gives.")
        case signal.SIGKILL:  # not ours: the kernel's out-of-memory killer, perhaps for a neighbour's sake
            message = "The job's process was killed, as happens when the machine runs out of memory."
            return _failed(ErrorCode.OUT_OF_MEMORY, message, retry=True)
    return _failed(ErrorCode.WORKER_LOST, f"The job's process ended: {_cause(observed)}.", retry=True)


def _failed(code: ErrorCode, message: str, *, retry: bool = False) -> Failed:
    return Failed(JobError(code=code, message=message), retry)


def _cause(observed: Observed) -> str:
    if observed.returncode >= 0:
        return f"exit status {observed.returncode} without a result"
    try:
        return signal.strsignal(-observed.returncode) or f"signal {-observed.returncode}"
    except ValueError:
        return f"signal {-observed.returncode}"
