"""The look at a model's code: finds the calls that open files, says nothing of anything else."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks import hostile_torchscript as hostile
from worker.screening import file_call


def archive(
    path: Path, code: str, member: str = "m/code/__torch__.py", method: int = zipfile.ZIP_STORED
) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as target:
        target.writestr("m/data.pkl", b"torch.save(in data)")
        target.writestr(member, code)
    path.write_bytes(buffer.getvalue())
    return path


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ('torch.save(x, "/tmp/a")', "save"),
        ('_0 = torch.from_file("/etc/passwd", False, 16)', "from_file"),
        ('_0 = ops.aten.from_file("/etc/passwd")', "from_file"),
        ("torch . save (x)", "save"),
        ("self.save(x)", None),
        ("saved = torch.saver(x)", None),
        ("mytorch.save(x)", None),
    ],
)
def test_calls(tmp_path: Path, code: str, call: str | None) -> None:
    assert file_call(archive(tmp_path / "m.pt", code)) == call
    assert file_call(archive(tmp_path / "m.pt", code, method=zipfile.ZIP_DEFLATED)) == call


def test_only_code_is_looked_at(tmp_path: Path) -> None:
    assert file_call(archive(tmp_path / "m.pt", "torch.save(x)", member="m/extra/notes.txt")) is None


def test_real_files(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    for module, call in (
        (hostile.Reader(), "from_file"),
        (hostile.Writer(), "save"),
        (hostile.Endless(), None),
    ):
        path.write_bytes(hostile.saved(module))
        assert file_call(path) == call


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"PK\x03\x04" + tail))
def test_noise_is_left_to_the_engine(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "noise"
    path.write_bytes(content)
    assert file_call(path) is None


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert file_call(tmp_path / "missing.pt") is None
