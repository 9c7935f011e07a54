"""What the child runs by default: the engine, behind a look for calls that no model needs.

TorchScript is code, and torch does not tell when the sandbox has refused its write. So the text of that
code is searched for the calls that open files. The sandbox is the boundary; this says why a job failed.
"""

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent
from api_schemas.jobs import ChildOrder, ChildResult
from worker.engine import orders

_OPENS_FILES: Final = re.compile(rb"\b(?:torch|ops\s*\.\s*aten)\s*\.\s*(save|from_file)\s*\(")
_MOST_BYTES: Final = 64 * 1024 * 1024
_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    OSError,
    ValueError,
    EOFError,
    zlib.error,
)


def run_order(order: ChildOrder, directory: Path, emit: Callable[[ChildEvent], None]) -> ChildResult:
    """Run the order in the engine, unless the model's code opens files."""
    call = file_call(directory / order.model)
    if call is None:
        return orders.run_order(order, directory, emit)
    message = f"The model's code opens files (torch.{call}), which a model has no need to do."
    return ChildResult(error=JobError(code=ErrorCode.SANDBOX_VIOLATION, message=message))


def file_call(path: Path) -> str | None:
    """The first call that opens a file in the code of a TorchScript archive, if there is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            for text in _code(archive):
                if found := _OPENS_FILES.search(text):
                    return found[1].decode()
    except _UNREADABLE:
        pass  # not an archive, or a broken one: the engine says what is wrong with it
    return None


def _code(archive: zipfile.ZipFile) -> Iterator[bytes]:
    """The source files of the archive, up to a budget that no honest model reaches."""
    budget = _MOST_BYTES
    for member in archive.infolist():
        if member.filename.endswith(".py") and budget > 0:
            with archive.open(member) as file:
                text = file.read(budget)
            budget -= len(text)
            yield text
