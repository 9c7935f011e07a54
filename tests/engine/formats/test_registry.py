import io
import zipfile

import pytest

from api_schemas.models import ModelFormat
from tests.engine.formats.files import dense_model
from worker.engine.errors import InvalidModelError, UnsupportedFormatError
from worker.engine.formats import FORMATS, LoadOptions, format_of, load, runner
from worker.engine.formats.base import Format
from worker.engine.formats.registry import register


def test_the_formats_that_are_read_are_registered():
    assert set(FORMATS) == {ModelFormat.ONNX, ModelFormat.TORCHSCRIPT}


def test_a_kind_cannot_be_taken_twice():
    class Another(Format):
        format = ModelFormat.ONNX

    with pytest.raises(ValueError, match="two classes"):
        register(Another)


def test_content_decides_and_not_the_name(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(dense_model().SerializeToString())
    assert format_of(path) is FORMATS[ModelFormat.ONNX]


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"hello, this is text", "neither"),
        (zip_of(archive__data=b"", archive__models__model=b""), "no .onnx file"),
        (zip_of(a__data_pkl=b"").replace(b"data_pkl", b"data.pkl"), "torch.jit.save"),
    ],
)
def test_other_files_are_refused_with_a_reason(tmp_path, content, message):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for use in (lambda: load(path, LoadOptions()), lambda: runner(path, LoadOptions(), 1)):
        with pytest.raises(UnsupportedFormatError, match=message):
            use()


def test_exported_programs_are_refused_with_what_to_do_instead(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(zip_of(m__archive_format=b"pt2", m__models__model_json=b"{}"))
    with pytest.raises(UnsupportedFormatError) as caught:
        load(path, LoadOptions())
    assert "ONNX" in (caught.value.hint or "")


def test_a_file_that_is_not_there_is_an_error_of_the_engine(tmp_path):
    with pytest.raises(InvalidModelError, match="cannot be read"):
        load(tmp_path / "none.onnx", LoadOptions())
