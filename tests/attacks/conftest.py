"""One place for hostile files, with little memory and short deadlines."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api_schemas.jobs import JobStatus
from api_schemas.models import ModelFormat
from store.records import JobKind, JobRecord
from tests.worker.workplace import Workplace, open_workplace, scripted, supervising
from worker.process import Launch
from worker.sandbox.policy import SandboxMode
from worker.supervisor import launch_of

INPUTS = {"x": [1, 4]}


class Arena:
    """Runs hostile files, each in a child, and shows how that ended."""

    def __init__(self, place: Workplace) -> None:
        self.place = place

    def naive(
        self, content: bytes, format_: ModelFormat, mode: SandboxMode = SandboxMode.STRICT
    ) -> JobRecord:
        """In an engine without any check of its own: what is refused, the sandbox has refused."""
        launch = replace(scripted(self.place.settings), engine="naive_engine:run_order", sandbox=mode)
        return self._run(content, format_, launch, JobKind.PRUNE)

    def real(self, content: bytes, format_: ModelFormat, kind: JobKind = JobKind.PRUNE) -> JobRecord:
        """In the engine that the service has."""
        return self._run(content, format_, launch_of(self.place.settings), kind)

    def _run(self, content: bytes, format_: ModelFormat, launch: Launch, kind: JobKind) -> JobRecord:
        model = self.place.add_model("hostile", content, format_)
        inputs = INPUTS if format_ is ModelFormat.TORCHSCRIPT else {}
        job = self.place.submit_for(model, kind, inputs=inputs, max_attempts=1)
        with supervising(self.place, launch) as supervisor:
            supervisor.drain()
            assert not supervisor.stopping
        ended = self.place.job(job)
        assert ended.status is JobStatus.FAILED and ended.error is not None
        assert self.place.scratch_left() == []
        return ended


_LIMITS = {"lease_seconds": 30, "memory_bytes": 2 * 1024**3, "max_output_bytes": 32 * 1024**2}


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    with open_workplace(tmp_path, stage_seconds=120, **_LIMITS) as place:
        yield Arena(place)


@pytest.fixture
def impatient_arena(tmp_path: Path) -> Iterator[Arena]:
    """Where three seconds of silence are too many."""
    with open_workplace(tmp_path, stage_seconds=3, **_LIMITS) as place:
        yield Arena(place)
