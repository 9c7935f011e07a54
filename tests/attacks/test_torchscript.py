"""TorchScript is code. Each file here does what it is made to do when nothing confines it."""

from pathlib import Path

from api_schemas.errors import ErrorCode
from api_schemas.models import ModelFormat
from store.records import JobRecord
from tests.attacks import hostile_torchscript as hostile
from tests.attacks.conftest import Arena
from worker.sandbox.policy import SandboxMode

TORCHSCRIPT = ModelFormat.TORCHSCRIPT


def code(job: JobRecord) -> ErrorCode | None:
    return None if job.error is None else job.error.code


def test_the_reader_reads_when_nothing_confines_it(arena: Arena) -> None:
    job = arena.naive(hostile.saved(hostile.Reader()), TORCHSCRIPT, SandboxMode.OFF)
    assert code(job) is ErrorCode.NEEDS_LABELS


def test_the_writer_writes_when_nothing_confines_it(arena: Arena, tmp_path: Path) -> None:
    escaped = tmp_path / "escaped"
    arena.naive(hostile.writer(escaped), TORCHSCRIPT, SandboxMode.OFF)
    assert escaped.exists()


def test_reading_at_load_is_a_violation(arena: Arena) -> None:
    assert code(arena.naive(hostile.saved(hostile.Reader()), TORCHSCRIPT)) is ErrorCode.SANDBOX_VIOLATION
    assert code(arena.real(hostile.saved(hostile.Reader()), TORCHSCRIPT)) is ErrorCode.SANDBOX_VIOLATION


def test_writing_at_load_writes_nothing(arena: Arena, tmp_path: Path) -> None:
    """Torch ignores that its write was refused; only the look at the code finds the attempt."""
    escaped = tmp_path / "escaped"
    assert code(arena.naive(hostile.writer(escaped), TORCHSCRIPT)) is ErrorCode.NEEDS_LABELS
    assert not escaped.exists()
    assert code(arena.real(hostile.writer(escaped), TORCHSCRIPT)) is ErrorCode.SANDBOX_VIOLATION
    assert not escaped.exists()


def test_a_load_without_end_is_ended(impatient_arena: Arena) -> None:
    content = hostile.saved(hostile.Endless())
    assert code(impatient_arena.naive(content, TORCHSCRIPT)) is ErrorCode.TIME_LIMIT
    assert code(impatient_arena.real(content, TORCHSCRIPT)) is ErrorCode.TIME_LIMIT


def test_four_tebibytes_in_two_kilobytes(arena: Arena) -> None:
    content = hostile.saved(hostile.Giant())
    assert len(content) < 4096
    assert code(arena.real(content, TORCHSCRIPT)) is ErrorCode.PAYLOAD_TOO_LARGE


def test_a_compressed_archive_is_not_unpacked(arena: Arena) -> None:
    content = hostile.bomb()
    assert len(content) < 128 * 1024
    assert code(arena.real(content, TORCHSCRIPT)) in (ErrorCode.INVALID_MODEL, ErrorCode.PAYLOAD_TOO_LARGE)
