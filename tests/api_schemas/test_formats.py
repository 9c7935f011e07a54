"""Models told apart by content: honest files of each kind, lookalikes, and the real ones."""

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.formats import sniff_model
from api_schemas.models import ModelFormat
from tests.service.files import onnx_bytes, torchscript_bytes, varint, zip_bytes

SHARED = Path(__file__).parents[2].parent / "shared" / "models"


def kind(data: bytes) -> ModelFormat | None:
    return sniff_model(io.BytesIO(data)).format


def why(data: bytes) -> str:
    found = sniff_model(io.BytesIO(data))
    assert found.format is None
    return found.reason or ""


def test_onnx_is_a_walk_over_its_fields() -> None:
    assert kind(onnx_bytes()) is ModelFormat.ONNX


@given(st.binary(max_size=300))
def test_any_graph_payload_is_passed_over_unread(payload: bytes) -> None:
    assert kind(onnx_bytes(payload)) is ModelFormat.ONNX


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_noise_never_crashes_and_is_never_a_zip_format(noise: bytes) -> None:
    found = sniff_model(io.BytesIO(noise))
    assert found.format in (None, ModelFormat.ONNX)
    assert (found.format is None) == (found.reason is not None)


def test_a_truncated_onnx_file_is_refused() -> None:
    assert kind(onnx_bytes(b"x" * 100)[:-1]) is None


def test_trailing_bytes_are_refused() -> None:
    assert kind(onnx_bytes() + b"\xff") is None


def test_a_model_without_a_graph_is_refused() -> None:
    assert kind(b"\x08\x08") is None


def test_other_protobuf_is_refused() -> None:
    assert kind(b"\x4a" + varint(3) + b"abc" + onnx_bytes()) is None  # field 9 is none of ModelProto's


def test_torchscript() -> None:
    assert kind(torchscript_bytes()) is ModelFormat.TORCHSCRIPT


def test_a_folder_named_code_is_not_torchscript() -> None:
    assert kind(zip_bytes({"code/model.onnx": onnx_bytes(), "code/w.bin": b"1"})) is ModelFormat.ONNX


def test_pt2() -> None:
    assert kind(zip_bytes({"m/archive_format": b"pt2", "m/models/model.json": b"{}"})) is ModelFormat.PT2


def test_zip_with_external_data_names_its_root() -> None:
    found = sniff_model(io.BytesIO(zip_bytes({"deep/model.onnx": onnx_bytes(), "deep/w.bin": b"1"})))
    assert (found.format, found.archive_root) == (ModelFormat.ONNX, "deep/model.onnx")


def test_what_macos_adds_is_passed_over() -> None:
    found = sniff_model(io.BytesIO(zip_bytes({"m.onnx": onnx_bytes(), "__MACOSX/._m.onnx": b"x"})))
    assert found.archive_root == "m.onnx"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (b"\x80\x04K\x01.", "pickle"),
        (b"PK\x03\x04garbage", "zip"),
        (zip_bytes({"m/data.pkl": b"x", "m/version": b"3"}), "checkpoint"),
        (zip_bytes({"a.onnx": b"1", "b.onnx": b"2"}), "2 .onnx files"),
        (zip_bytes({"a.txt": b"1"}), "no .onnx file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "neither ONNX"),
    ],
)
def test_refusals_say_what_the_file_seems_to_be(data: bytes, word: str) -> None:
    assert word in why(data)


def test_a_directory_bomb_is_refused_before_zipfile_reads_it() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m.onnx", b"1")
    data = bytearray(buffer.getvalue())
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = (2**31).to_bytes(4, "little")
    assert "directory is too large" in why(bytes(data))


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="no real models beside the checkout")
@pytest.mark.parametrize("path", sorted(SHARED.rglob("*.*")), ids=lambda path: path.name)
def test_real_files(path: Path) -> None:
    expected = {".onnx": ModelFormat.ONNX, ".pt": ModelFormat.TORCHSCRIPT, ".jit": ModelFormat.TORCHSCRIPT}
    expected[".ptl"] = ModelFormat.TORCHSCRIPT
    with path.open("rb") as file:
        found = sniff_model(file).format
    if path.name.startswith("git_lfs") or path.suffix not in expected:
        assert found is None
    else:
        assert found is expected[path.suffix]
