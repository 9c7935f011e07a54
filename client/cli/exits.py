"""Exit codes, and how errors become one and a message."""

import json
import os
import sys
import traceback
from enum import IntEnum
from typing import Any, final

import typer
from pydantic import ValidationError
from typer.core import TyperGroup

from api_schemas.errors import ErrorCode, plain_message
from client.cli import screen
from client.errors import (
    ApiError,
    ConflictError,
    InvalidRequestError,
    JobFailedError,
    LocalFileError,
    LookaheadError,
    NotFoundError,
    ServerError,
    WaitTimeoutError,
)


class ExitCode(IntEnum):
    """What the shell is told; codes up to 124 are part of the contract."""

    DONE = 0
    JOB_FAILED = 1
    USAGE = 2
    GATE = 3
    SERVER = 4
    TIMEOUT = 124
    INTERRUPTED = 130


#: Refusals that say something about the file rather than about the command line.
_ABOUT_THE_MODEL = {
    ErrorCode.UNSUPPORTED_FORMAT,
    ErrorCode.INVALID_MODEL,
    ErrorCode.PAYLOAD_TOO_LARGE,
    ErrorCode.OUT_OF_MEMORY,
    ErrorCode.TIME_LIMIT,
    ErrorCode.SANDBOX_VIOLATION,
    ErrorCode.WORKER_LOST,
}


@final
class UsageError(LookaheadError):
    """The command line asks for something that makes no sense."""

    code = "usage"


#: What the engine says of a request that a server would have refused before it became a job.
_ABOUT_THE_REQUEST = {
    UsageError.code,
    ErrorCode.INVALID_RECIPE,
    ErrorCode.NEEDS_DATASET,
    ErrorCode.NEEDS_INPUTS,
    ErrorCode.NEEDS_LABELS,
    ErrorCode.INVALID_DATASET,
    ErrorCode.PICKLED_DATA,
    ErrorCode.WRONG_DTYPE,
    ErrorCode.NOT_FINITE,
    ErrorCode.TOO_FEW_ROWS,
    ErrorCode.LABELS_OUT_OF_RANGE,
}


@final
class EngineError(LookaheadError):
    """The engine, run on this machine, ended without a result."""


def exit_code(error: LookaheadError) -> ExitCode:
    """The code for an error: about the job 1, about what was asked 2, about the server 4, about time 124."""
    if isinstance(error, WaitTimeoutError):
        return ExitCode.TIMEOUT
    if isinstance(error, JobFailedError):
        return ExitCode.JOB_FAILED
    if isinstance(error, ServerError):  # whatever its code: no worker in time, no room on its disk
        return ExitCode.SERVER
    if isinstance(error, ApiError) and error.code in _ABOUT_THE_MODEL:
        return ExitCode.JOB_FAILED
    if isinstance(error, EngineError):
        return ExitCode.USAGE if error.code in _ABOUT_THE_REQUEST else ExitCode.JOB_FAILED
    if isinstance(error, InvalidRequestError | NotFoundError | ConflictError | LocalFileError | UsageError):
        return ExitCode.USAGE
    return ExitCode.SERVER


@final
class GuardedGroup(TyperGroup):
    """Commands whose errors end in a message and an exit code, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except LookaheadError as error:
            show_error(error)
            raise typer.Exit(exit_code(error)) from error
        except ValidationError as error:
            show_error(_usage(error))
            raise typer.Exit(ExitCode.USAGE) from error
        except KeyboardInterrupt as interrupt:
            screen.note("interrupted")
            raise typer.Exit(ExitCode.INTERRUPTED) from interrupt
        except BrokenPipeError as closed:
            # Whoever read our output has had enough; the interpreter must not complain at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.DONE) from closed
        except OSError as error:
            show_error(LocalFileError(f"{error.filename or 'i/o'}: {error.strerror or error}"))
            raise typer.Exit(ExitCode.USAGE) from error
        except (typer.Exit, typer.Abort, typer.TyperException):
            raise
        except Exception as error:
            raise typer.Exit(_unexpected(error)) from error


def _usage(error: ValidationError) -> LookaheadError:
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    return UsageError(f"{place}: {plain_message(first)}" if place else plain_message(first))


def _unexpected(error: Exception) -> ExitCode:
    if os.environ.get("LOOKAHEAD_DEBUG"):
        screen.note(traceback.format_exc())
    hint = "this is a fault of the command; LOOKAHEAD_DEBUG=1 shows where"
    show_error(LookaheadError(f"{type(error).__name__}: {error}", code="internal", hint=hint))
    return ExitCode.JOB_FAILED


def show_error(error: LookaheadError) -> None:
    """Write an error to standard error: for people, or as one line of JSON after ``--json``."""
    fields = list(error.errors) if isinstance(error, ApiError) else []
    if screen.json_wanted():
        body: dict[str, Any] = {"code": error.code, "message": error.message, "hint": error.hint}
        if fields:
            body["errors"] = [field.model_dump() for field in fields]
        screen.note(json.dumps({"error": body}, ensure_ascii=False))
        return
    screen.error_line(error.code, error.message)
    for field in fields:
        screen.note(f"  {field.pointer or '/'}: {field.message}")
    if error.hint:
        screen.note(f"  hint: {error.hint}")
