"""Resource limits of the child. They bound accidents and floods; deadlines are the supervisor's."""

import os
import resource
from pathlib import Path
from typing import final

from pydantic import BaseModel, ConfigDict, Field

_OPEN_FILES = 1024
_CPU_GRACE_SECONDS = 5


@final
class Limits(BaseModel):
    """What one job may use. Bytes and seconds.

    `memory_bytes` comes on top of what the process holds when the limit is set; None leaves address
    space alone (CUDA reserves hundreds of GB of it) and the supervisor watches resident memory instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpu_seconds: int = Field(gt=0)
    memory_bytes: int | None = Field(default=None, gt=0)
    file_bytes: int = Field(gt=0)


def settle() -> None:
    """The limits that hold from the start: no core dumps, no flood of descriptors."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES)


def tighten(limits: Limits) -> None:
    """Set the job's own limits. They can be lowered again, never raised."""
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds, grace=_CPU_GRACE_SECONDS)
    if limits.memory_bytes is not None:
        _lower(resource.RLIMIT_AS, _address_space() + limits.memory_bytes)


def _lower(which: int, value: int, grace: int = 0) -> None:
    _, ceiling = resource.getrlimit(which)
    hard = value + grace if ceiling == resource.RLIM_INFINITY else min(value + grace, ceiling)
    resource.setrlimit(which, (min(value, hard), hard))


def _address_space() -> int:
    """Bytes of address space this process has mapped."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")
