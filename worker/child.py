"""The process that opens one untrusted file: ``python -m worker.child``, started by the supervisor only.

It confines itself, imports the engine while there is nothing to do yet, takes one order, and exits.
"""

import argparse
import contextlib
import faulthandler
import fcntl
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent
from api_schemas.jobs import ChildOrder, ChildResult
from worker.errors import SandboxUnavailableError
from worker.protocol import ChildMessage, ChildStart
from worker.sandbox import SandboxMode, enter, tighten

Engine = Callable[[ChildOrder, Path, Callable[[ChildEvent], None]], ChildResult]

ENGINE = "worker.screening:run_order"
PRELOAD = "torch,torch.onnx,onnx,onnxruntime"

_OUT_OF_MEMORY = JobError(
    code=ErrorCode.OUT_OF_MEMORY, message="The job needed more memory than a worker gives."
)
_VIOLATION = JobError(
    code=ErrorCode.SANDBOX_VIOLATION, message="The job tried something that a model has no need to do."
)
_INTERNAL = JobError(code=ErrorCode.INTERNAL, message="The engine failed in a way it should not.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one order and end the process. Never returns."""
    options = _options(arguments)
    _die_with(options.lifeline)
    faulthandler.enable()
    say = _Mouth(options.pipe)
    try:
        confinement = enter(SandboxMode(options.sandbox), options.directory, cuda=options.cuda)
    except SandboxUnavailableError as error:
        say(ChildMessage(refused=str(error)))
        _leave(3)
    engine = _load(options.engine, options.preload)
    say(ChildMessage(ready=confinement.describe()))
    line = sys.stdin.buffer.readline()
    if line:
        say(ChildMessage(result=_run(ChildStart.model_validate_json(line), engine, options.directory, say)))
    _leave(0)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="worker.child", description=__doc__)
    parser.add_argument("--pipe", type=int, required=True, help="descriptor to write messages to")
    parser.add_argument(
        "--lifeline", type=int, required=True, help="descriptor that ends with the supervisor"
    )
    parser.add_argument("--directory", type=Path, required=True, help="the only place it may write")
    parser.add_argument("--sandbox", choices=list(SandboxMode), default=SandboxMode.STRICT)
    parser.add_argument("--cuda", action="store_true", help="grant the GPU's devices")
    parser.add_argument("--engine", default=ENGINE, help="module:function that runs an order")
    parser.add_argument("--preload", default=PRELOAD, help="modules to import while waiting")
    return parser.parse_args(arguments)


def _die_with(lifeline: int) -> None:
    """Have the kernel send SIGKILL when the other end of the lifeline closes, however the supervisor dies.

    A thread that waits for it would need the interpreter, which a loop in C can hold for ever, and
    PR_SET_PDEATHSIG fires when the *thread* that started us ends (bubblewrap#692).
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        os.read(lifeline, 1)  # nothing is ever written: a byte or an end means it closed before we looked
        _leave(0)


def _load(engine: str, preload: str) -> Engine:
    for name in filter(None, preload.split(",")):
        importlib.import_module(name)
    module, _, function = engine.partition(":")
    loaded: Engine = getattr(importlib.import_module(module), function)
    gc.freeze()  # what was imported lives as long as the child: no collection need go through it again
    return loaded


def _run(start: ChildStart, engine: Engine, directory: Path, say: "_Mouth") -> ChildResult:
    """Run the order; whatever happens comes back as a result. Tracebacks go to the log only."""
    os.chdir(directory)
    tighten(start.limits)
    try:
        return engine(start.order, directory, lambda event: say(ChildMessage(event=event)))
    except MemoryError:
        return ChildResult(error=_OUT_OF_MEMORY)
    except PermissionError:
        traceback.print_exc()
        return ChildResult(error=_VIOLATION)
    except BaseException:  # SystemExit included: nothing the engine raises may decide how this ends
        traceback.print_exc()
        return ChildResult(error=_INTERNAL)


@final
class _Mouth:
    """Writes messages to the supervisor."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def __call__(self, message: ChildMessage) -> None:
        rest = memoryview(message.line())
        while rest:
            rest = rest[os.write(self._pipe, rest) :]


def _leave(status: int) -> None:
    """End now: the destructors of a gigabyte of libraries have nothing to tell us."""
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
