"""Downloads: cuts, changes, lies."""

import hashlib
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from httpx2 import Headers
from hypothesis import given
from hypothesis import strategies as st

from client import (
    ConflictError,
    DigestMismatchError,
    JobFailedError,
    LocalFileError,
    NotFoundError,
    ProtocolError,
    UnreachableError,
)
from client.downloading import file_name, promised_digest
from tests.client import answers
from tests.client.scripted import Answered, Asked, answer, problem, serving

CONTENT = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Files:
    """Serves `content` with ranges as the contract says, and cuts each connection after `cuts` bytes."""

    def __init__(self, content: bytes = CONTENT, cuts: list[int] | None = None, **headers: str) -> None:
        self.content = content
        self.cuts = cuts or []
        self.extra = {name.replace("_", "-"): value for name, value in headers.items()}
        self.digest = hashlib.sha256(content).hexdigest()

    def __call__(self, asked: Asked) -> Answered:
        headers = {
            "ETag": f'"{self.digest}"',
            "Content-Disposition": 'attachment; filename="m.pruned.onnx"',
        } | self.extra
        cut = self.cuts.pop(0) if self.cuts else None
        wanted = asked.headers.get("range")
        if wanted is None or asked.headers.get("if-range") != f'"{self.digest}"':
            return Answered(200, headers | {"Content-Length": str(len(self.content))}, self.content, cut)
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            return Answered(416, headers | {"Content-Range": f"bytes */{len(self.content)}"})
        extent = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        body = self.content[start:]
        return Answered(206, headers | {"Content-Range": extent, "Content-Length": str(len(body))}, body, cut)


def _left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_whole(call: Any, tmp_path: Path) -> None:
    moved: list[tuple[int, int | None]] = []
    with serving(Files()) as server:
        path = call(
            server.url,
            "download",
            answers.JOB_ID,
            tmp_path / "out.onnx",
            on_bytes=lambda done, total: moved.append((done, total)),
        )
    assert path == tmp_path / "out.onnx"
    assert path.read_bytes() == CONTENT
    assert moved[-1] == (len(CONTENT), len(CONTENT))
    assert _left(tmp_path) == ["out.onnx"]
    assert server.asked[0].headers["accept-encoding"] == "identity"


def test_into_a_directory_under_the_servers_name(call: Any, tmp_path: Path) -> None:
    with serving(Files()) as server:
        assert call(server.url, "download", answers.JOB_ID, tmp_path) == tmp_path / "m.pruned.onnx"
    with serving(Files(Content_Disposition="")) as server:
        assert call(server.url, "download", answers.JOB_ID, tmp_path).name == f"{answers.JOB_ID}.model"


def test_cuts_are_resumed_where_they_happened(call: Any, tmp_path: Path) -> None:
    with serving(Files(cuts=[100_000, 200_000, 1, 300_000])) as server:
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert _left(tmp_path) == ["out"]
    starts = [asked.headers.get("range") for asked in server.asked]
    assert starts == [None, "bytes=100000-", "bytes=300000-", "bytes=300001-", "bytes=600001-"]
    assert all(asked.headers["if-range"] == f'"{DIGEST}"' for asked in server.asked[1:])


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(call: Any, tmp_path: Path) -> None:
    with serving(Files(cuts=[50_000, 0, 0, 0])) as server, pytest.raises(UnreachableError):
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert _left(tmp_path) == [f"{answers.JOB_ID}.{DIGEST}.part"]
    with serving(Files()) as server:
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert server.asked[0].headers["range"] == "bytes=50000-"
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert _left(tmp_path) == ["out"]


def test_other_content_starts_anew(call: Any, tmp_path: Path) -> None:
    other = b"old" * 1000
    part = tmp_path / f"{answers.JOB_ID}.{hashlib.sha256(other).hexdigest()}.part"
    part.write_bytes(other[:100])
    with serving(Files()) as server:
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT
    assert _left(tmp_path) == ["out"]


def test_a_part_that_is_the_whole_file_already(call: Any, tmp_path: Path) -> None:
    (tmp_path / f"{answers.JOB_ID}.{DIGEST}.part").write_bytes(CONTENT)
    with serving(Files()) as server:
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [10, len(CONTENT)])
def test_a_spoilt_part_is_found_out(call: Any, tmp_path: Path, kept: int) -> None:
    (tmp_path / f"{answers.JOB_ID}.{DIGEST}.part").write_bytes(b"!" * kept)
    with serving(Files()) as server, pytest.raises(DigestMismatchError):
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert _left(tmp_path) == []


def test_flipped_bits_are_refused_and_nothing_is_kept(call: Any, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"what was here before")
    files = Files()
    files.content = b"X" + CONTENT[1:]
    with serving(files) as server, pytest.raises(DigestMismatchError, match=DIGEST):
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert _left(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"what was here before"


def test_a_file_that_cannot_be_checked_is_not_taken(call: Any, tmp_path: Path) -> None:
    with serving(Files(ETag='W/"x"')) as server, pytest.raises(ProtocolError, match="no sha256"):
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    assert _left(tmp_path) == []


def test_bytes_nobody_asked_for(call: Any, tmp_path: Path) -> None:
    lie = Answered(206, {"ETag": f'"{DIGEST}"', "Content-Range": "bytes 5-9/10"}, b"abcde")
    with serving(lambda asked: lie) as server, pytest.raises(ProtocolError, match="not asked"):
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")
    lie = Answered(206, {"ETag": f'"{DIGEST}"'}, b"abcde")
    with serving(lambda asked: lie) as server, pytest.raises(ProtocolError, match="Content-Range"):
        call(server.url, "download", answers.JOB_ID, tmp_path / "out")


@pytest.mark.parametrize("method", ["report", "report_page", "download"])
@pytest.mark.parametrize("status", ["failed", "cancelled", "running"])
def test_results_of_jobs_that_have_none(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, status: str
) -> None:
    monkeypatch.chdir(tmp_path)

    def script(asked: Asked) -> Answered:
        is_job = asked.path.endswith(answers.JOB_ID)
        return answer(answers.job(status)) if is_job else problem(409, "conflict", "not there")

    kind = ConflictError if status == "running" else JobFailedError
    with serving(script) as server, pytest.raises(kind) as caught:
        call(server.url, method, answers.JOB_ID)
    expected = {"failed": "invalid_model", "cancelled": "cancelled", "running": "conflict"}
    assert caught.value.code == expected[status]
    if status == "failed":
        assert (caught.value.message, caught.value.hint) == ("nothing to prune", "give it weights")


def test_the_page(call: Any) -> None:
    page = Answered(200, {"Content-Type": "text/html"}, "<p>ü</p>".encode())
    with serving(lambda asked: page) as server:
        assert call(server.url, "report_page", answers.JOB_ID) == "<p>ü</p>"
    assert server.asked[0].headers["accept"] == "text/html"


def test_places_that_cannot_be_written(call: Any, tmp_path: Path) -> None:
    with serving(Files()) as server:
        with pytest.raises(LocalFileError, match="no directory"):
            call(server.url, "download", answers.JOB_ID, tmp_path / "none" / "out")
        assert server.asked == []
        (tmp_path / f"{answers.JOB_ID}.{DIGEST}.part").mkdir()
        with pytest.raises(LocalFileError):
            call(server.url, "download", answers.JOB_ID, tmp_path / "out")


def test_unknown_job(call: Any, tmp_path: Path) -> None:
    with serving(lambda asked: problem(404, "not_found")) as server, pytest.raises(NotFoundError):
        call(server.url, "download", answers.JOB_ID, tmp_path)


@given(content=st.binary(max_size=20))
def test_either_header_names_the_digest(content: bytes) -> None:
    digest = hashlib.sha256(content)
    tag = {"ETag": f'"{digest.hexdigest()}"'}
    other = {"Repr-Digest": f"sha-512=:AAAA:, sha-256=:{b64encode(digest.digest()).decode()}:"}
    for headers in (tag, other, tag | other, {"ETag": '"abc"'} | other):
        assert promised_digest(Headers(headers)) == digest.hexdigest()


def test_two_headers_that_disagree() -> None:
    wrong = b64encode(bytes(32)).decode()
    with pytest.raises(ProtocolError, match="disagree"):
        promised_digest(Headers({"ETag": f'"{DIGEST}"', "Repr-Digest": f"sha-256=:{wrong}:"}))


@given(name=st.text(st.characters(exclude_characters='"\\\r\n', max_codepoint=0x2FF), max_size=40))
def test_a_servers_file_name_stays_a_name(name: str) -> None:
    found = file_name(
        Headers({"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"})
    )
    if found is not None:
        assert Path(found).name == found
        assert not found.startswith(".")
        assert found.isprintable()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('attachment; filename="a.onnx"', "a.onnx"),
        ("attachment; filename=\"a.onnx\"; filename*=UTF-8''%C3%BC.onnx", "ü.onnx"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\x\\\\b.pt"', "b.pt"),
        ('attachment; filename=".bashrc"', "bashrc"),
        ('attachment; filename=".."', None),
        ("attachment", None),
        ("", None),
    ],
)
def test_file_names(value: str, expected: str | None) -> None:
    assert file_name(Headers({"Content-Disposition": value})) == expected
