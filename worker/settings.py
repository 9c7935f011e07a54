"""Settings of the worker: those of the store, and what a job may use. All from ``LOOKAHEAD_…``."""

import os
import socket
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from store.records import JobKind
from store.settings import Seconds, StoreSettings
from worker.devices import cuda_devices, cuda_visible
from worker.sandbox.policy import SandboxMode

_SHARE_OF_MEMORY = 0.8
_GIB = 1024**3


def _machine_memory() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def _available_memory() -> int:
    """80 % of the machine, or of the container where that is less."""
    limits = [_machine_memory()]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # no such hierarchy, or "max"
    return int(min(limits) * _SHARE_OF_MEMORY)


def _available_threads() -> int:
    return len(os.sched_getaffinity(0))


def _available_devices() -> int:
    return max(1, len(cuda_devices()))


def _unique_name() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


class WorkerSettings(StoreSettings):
    """What a worker is told. Unset `broker_url` is the embedded mode: no doorbell, the worker polls.

    `stage_seconds` is the longest silence of a job: no event, no progress. `memory_bytes` bounds what a
    job may take beside the libraries. `checkpoint_seconds` is how often long work is saved at most.
    `devices` is how many a job trains on, with a process for each; without GPUs they share the processor.
    `torchscript_enabled` off refuses TorchScript, which is code. `job_kinds`, separated by commas, are those
    that it takes: one that takes no pruning answers inspections and validations while others are busy.
    """

    model_config = SettingsConfigDict(env_prefix="LOOKAHEAD_", extra="ignore", frozen=True)

    broker_url: str | None = None
    sandbox: SandboxMode = SandboxMode.STRICT
    job_seconds: Seconds = 4 * 3600
    stage_seconds: Seconds = 1800
    memory_bytes: Annotated[int, Field(gt=0)] = Field(default_factory=_available_memory)
    max_output_bytes: Annotated[int, Field(gt=0)] = 8 * _GIB
    checkpoint_seconds: Seconds = 60
    max_checkpoint_bytes: Annotated[int, Field(gt=0)] = 8 * _GIB
    scratch_dir: Path | None = None
    threads: Annotated[int, Field(gt=0)] = Field(default_factory=_available_threads)
    devices: Annotated[int, Field(gt=0, le=64)] = Field(default_factory=_available_devices)
    poll_seconds: Seconds = 0.5
    worker_name: Annotated[str, Field(min_length=1, max_length=128)] = Field(default_factory=_unique_name)
    torchscript_enabled: bool = True
    job_kinds: Annotated[tuple[JobKind, ...], NoDecode, Field(min_length=1)] = tuple(JobKind)

    @field_validator("job_kinds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(kind.strip() for kind in value.split(",") if kind.strip())
        return value

    @model_validator(mode="after")
    def _devices_are_there(self) -> Self:
        if cuda_visible() and self.devices > _available_devices():
            raise ValueError(f"there are GPUs for {_available_devices()} processes, not for {self.devices}")
        return self

    @property
    def scratch(self) -> Path:
        """Where the children's directories are; by default on the file system of the data."""
        return self.scratch_dir or self.data_dir / "scratch"
