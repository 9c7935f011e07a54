"""The form receiver against forms cut into chunks at every place."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadRequestError, InvalidRequestError, TooLargeError
from service.transfer.multipart import Form, MultipartReceiver

TYPE = "multipart/form-data; boundary=cut"


def body(*parts: tuple[str, str | None, bytes], end: bool = True) -> bytes:
    out = bytearray()
    for name, filename, data in parts:
        out += f'--cut\r\nContent-Disposition: form-data; name="{name}"'.encode()
        out += f'; filename="{filename}"'.encode() if filename is not None else b""
        out += b"\r\n\r\n" + data + b"\r\n"
    return bytes(out + (b"--cut--\r\n" if end else b""))


def receive(folder: Path, data: bytes, sizes: list[int] | None = None, content_type: str = TYPE) -> Form:
    async def chunks() -> AsyncIterator[bytes]:
        rest = data
        for size in sizes or []:
            yield rest[:size]
            rest = rest[size:]
        yield rest

    async def run() -> Form:
        receiver = MultipartReceiver(
            folder, files=("file", "external_data"), fields=("request",), max_field_bytes=1000
        )
        return await receiver.receive(content_type, chunks())

    return anyio.run(run)


@settings(max_examples=60, deadline=None)
@given(
    model=st.binary(max_size=200),
    data=st.binary(max_size=200),
    text=st.text(st.characters(codec="utf-8"), max_size=50),
    sizes=st.lists(st.integers(1, 40), max_size=30),
)
def test_a_form_comes_out_as_it_went_in_wherever_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, model: bytes, data: bytes, text: str, sizes: list[int]
) -> None:
    if any(b"\r\n--cut" in b"\r\n" + part for part in (model, data, text.encode())):
        return
    folder = tmp_path_factory.mktemp("form")
    sent = body(
        ("file", "m.onnx", model), ("external_data", "w/1.bin", data), ("request", None, text.encode())
    )
    form = receive(folder, sent, sizes)
    assert form.one("file").path.read_bytes() == model
    assert form.one("external_data").path.read_bytes() == data
    assert form.one("external_data").filename == "w/1.bin"
    assert dict(form.fields) == {"request": text}


def test_a_file_part_needs_no_file_name(tmp_path: Path) -> None:
    assert receive(tmp_path, body(("file", None, b"abc"))).one("file").size_bytes == 3


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", f"multipart/form-data; boundary={'x' * 500}"]
)
def test_an_unusable_boundary(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(BadRequestError):
        receive(tmp_path, body(("file", "a", b"1")), content_type=content_type)


def test_a_body_that_ends_early(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="closing boundary"):
        receive(tmp_path, body(("file", "a", b"1"), end=False))


def test_a_malformed_body(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match="malformed"):
        receive(tmp_path, b"no boundary at all")


def test_an_unknown_part(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="'weights'; known are external_data, file, request"):
        receive(tmp_path, body(("weights", "a", b"1")))


def test_a_field_that_comes_twice(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="twice"):
        receive(tmp_path, body(("request", None, b"1"), ("request", None, b"2")))


def test_a_field_over_the_limit(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError):
        receive(tmp_path, body(("request", None, b"x" * 1001)))


def test_thousands_of_parts(tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="parts"):
        receive(tmp_path, body(*[("external_data", "a", b"")] * 1001))


def test_two_files_where_one_is_wanted(tmp_path: Path) -> None:
    form = receive(tmp_path, body(("file", "a", b"1"), ("file", "b", b"2")))
    with pytest.raises(InvalidRequestError, match="2 came"):
        form.one("file")
