"""ONNX files that crash or exhaust the runtime, or point at files that are not theirs."""

import pytest

from api_schemas.errors import ErrorCode
from api_schemas.models import ModelFormat
from store.records import JobKind, JobRecord
from tests.attacks import hostile_onnx as hostile
from tests.attacks.conftest import Arena
from tests.worker.workplace import supervising
from worker.supervisor import launch_of

ONNX = ModelFormat.ONNX


def code(job: JobRecord) -> ErrorCode | None:
    return None if job.error is None else job.error.code


def test_deep_functions_crash_the_runtime_and_nothing_else(arena: Arena) -> None:
    assert code(arena.naive(hostile.deep_functions(), ONNX)) is ErrorCode.WORKER_LOST


@pytest.mark.parametrize("kind", [JobKind.INSPECT, JobKind.PRUNE])
def test_deep_functions_are_refused(arena: Arena, kind: JobKind) -> None:
    assert code(arena.real(hostile.deep_functions(), ONNX, kind)) is ErrorCode.INVALID_MODEL


def test_160_gigabytes_from_some_hundred_bytes(arena: Arena) -> None:
    content = hostile.expanding()
    assert len(content) < 1024
    assert code(arena.naive(content, ONNX)) is ErrorCode.OUT_OF_MEMORY
    assert code(arena.real(content, ONNX)) is ErrorCode.OUT_OF_MEMORY


@pytest.mark.parametrize("location", ["../../../../../../etc/passwd", "/proc/self/environ", "model.onnx"])
def test_external_data_elsewhere_is_refused(arena: Arena, location: str) -> None:
    assert code(arena.real(hostile.external(location), ONNX)) is ErrorCode.INVALID_MODEL


@pytest.mark.parametrize(
    "content",
    [
        hostile.zipped({"m.onnx": hostile.external("w.bin")}, {"w.bin": "/etc/passwd"}),
        hostile.zipped({"m.onnx": hostile.external("w.bin"), "../w.bin": bytes(16)}),
    ],
    ids=["link", "parent"],
)
def test_archives_that_reach_outside_are_refused(arena: Arena, content: bytes) -> None:
    assert code(arena.real(content, ONNX)) in (ErrorCode.INVALID_MODEL, ErrorCode.UNSUPPORTED_FORMAT)


def test_a_control_file_with_its_data_beside_it_is_read(arena: Arena) -> None:
    """The refusals above are for what they reach for: the same model with honest data is inspected."""
    content = hostile.zipped({"m.onnx": hostile.external("w.bin"), "w.bin": bytes(16)})
    model = arena.place.add_model("honest.zip", content)
    job = arena.place.submit_for(model, JobKind.INSPECT)
    with supervising(arena.place, launch_of(arena.place.settings)) as supervisor:
        supervisor.drain()
    assert arena.place.job(job).status == "succeeded", arena.place.job(job).error
