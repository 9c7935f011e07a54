"""Names for downloads come from names that users gave; files from processes that nobody trusts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.jobs import ChildResult
from api_schemas.models import ModelFormat
from tests.worker.workplace import open_workplace, recipe, small_onnx
from worker.artefacts import Artefacts, _stem, _suffix, _without_nul
from worker.errors import RejectedOutputError


@given(st.text(max_size=300))
def test_a_stem_is_a_plain_name(filename: str) -> None:
    stem = _stem(filename)
    assert stem and stem.strip(" .") == stem
    assert len(stem) <= 200
    assert not set(stem) & set("/\\\0\n\r\"'<>;:|&$`")


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("model.onnx", "model"),
        ("../../etc/passwd", "passwd"),
        ("C:\\models\\net.pt", "net"),
        ("réseau 2.onnx", "réseau 2"),
        ("...", "model"),
        ('a"; rm -rf b.onnx', "a__ rm -rf b"),
        ("", "model"),
    ],
)
def test_stems(filename: str, stem: str) -> None:
    assert _stem(filename) == stem


@pytest.mark.parametrize(
    ("filename", "format_", "content", "suffix"),
    [
        ("a.onnx", ModelFormat.ONNX, b"\x08\x09", ".onnx"),
        ("a.bin", ModelFormat.ONNX, b"\x08\x09", ".onnx"),
        ("a.onnx", ModelFormat.ONNX, b"PK\x03\x04", ".zip"),
        ("a.pth", ModelFormat.TORCHSCRIPT, b"PK\x03\x04", ".pth"),
        ("a.exe", ModelFormat.TORCHSCRIPT, b"PK\x03\x04", ".pt"),
    ],
)
def test_suffixes(tmp_path: Path, filename: str, format_: ModelFormat, content: bytes, suffix: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert _suffix(filename, format_, path) == suffix


json_values = st.recursive(
    st.none() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(json_values)
def test_no_nul_is_left_anywhere(value: object) -> None:
    assert "\0" not in str(_without_nul(value)) and "\\x00" not in repr(_without_nul(value)).replace(
        "\\\\", ""
    )


@pytest.mark.parametrize("kind", ["symlink", "folder", "fifo", "hard link", "too large", "gone"])
def test_only_plain_files_are_taken(tmp_path: Path, kind: str) -> None:
    import os

    with open_workplace(tmp_path) as place:
        job = place.submit("ok", max_attempts=1)
        model = place.store.models.get(job.model_id)
        output = tmp_path / "output"
        output.mkdir()
        target = output / "m.onnx"
        if kind == "symlink":
            target.symlink_to("/etc/passwd")
        elif kind == "folder":
            target.mkdir()
        elif kind == "fifo":
            os.mkfifo(target)
        elif kind != "gone":
            target.write_bytes(small_onnx() + bytes(200 if kind == "too large" else 0))
        if kind == "hard link":
            (output / "other").hardlink_to(target)
        artefacts = Artefacts(place.store.blobs, most_bytes=len(small_onnx()))
        with pytest.raises(RejectedOutputError, match="model"):
            artefacts.outcome(job, model, ChildResult(model="m.onnx", report="r.json"), output)
        assert job.recipe == recipe()
