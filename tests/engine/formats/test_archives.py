"""Zip archives that lie (S4, S13 of the reliability page)."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.errors import EngineError, InvalidModelError, TooLargeError
from worker.engine.formats.archives import check_archive, extract, open_archive, pack

LIMIT = 1 << 24


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return path


def check(path: Path, limit: int = LIMIT, stored: tuple[str, ...] = ()) -> None:
    with open_archive(path) as archive:
        check_archive(archive, limit, stored)
        into = path.parent / "out"
        into.mkdir(exist_ok=True)
        extract(archive, into)


def test_what_is_packed_is_what_was_extracted(tmp_path):
    members = {"a/model.onnx": b"model", "a/data.bin": bytes(1000), "empty": b""}
    check(write_zip(tmp_path / "in.zip", members, zipfile.ZIP_DEFLATED))
    for name in ("first.zip", "second.zip"):
        pack(tmp_path / name, {member: tmp_path / "out" / member for member in members})
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == members
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.parametrize("name", ["../up", "/etc/x", "a/../../up", "a\\b"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    path = write_zip(tmp_path / "in.zip", {name: b"x"})
    with pytest.raises(InvalidModelError, match="not allowed"):
        check(path)
    assert not (tmp_path / "up").exists()


def test_links_are_refused(tmp_path):
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InvalidModelError, match="no plain file"):
        check(tmp_path / "in.zip")


def test_a_bomb_is_refused_by_its_ratio_and_by_its_size(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"zeros": bytes(1 << 23)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(InvalidModelError, match="grows"):
        check(path)
    with pytest.raises(TooLargeError, match="unpacked"):
        check(path, limit=1 << 20)


def test_tensor_data_must_not_be_compressed(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"m/data/0": bytes(64)}, zipfile.ZIP_DEFLATED)
    check(path)
    with pytest.raises(InvalidModelError, match="uncompressed"):
        check(path, stored=("data",))


def test_two_files_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    with pytest.raises(InvalidModelError, match="one name"):
        check(tmp_path / "in.zip")


def test_the_directory_must_agree_with_the_headers(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"aaaa": b"1234", "bbbb": b"5678"})
    data = bytearray(path.read_bytes())
    data[data.index(b"aaaa")] = ord("c")
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match=r"contradicts"):
        check(path)


def test_members_that_share_bytes_are_refused(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"aaaa": b"1234", "aaab": b"1234"})
    data = bytearray(path.read_bytes())
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, 0)  # the second entry points at the first file
    data[second + 46 + 3] = ord("a")
    path.write_bytes(data)
    with pytest.raises(InvalidModelError):
        check(path)


def test_a_checksum_that_does_not_fit_is_refused(tmp_path):
    path = write_zip(tmp_path / "in.zip", {"aaaa": b"payload"})
    path.write_bytes(path.read_bytes().replace(b"payload", b"paylOad"))
    with pytest.raises(InvalidModelError, match="cannot be unpacked"):
        check(path)


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("worker.engine.formats.archives._MOST_MEMBERS", 3)
    with pytest.raises(InvalidModelError, match="members"):
        check(write_zip(tmp_path / "in.zip", {str(index): b"" for index in range(4)}))


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_archive_ends_in_an_error_of_the_engine_or_in_nothing(
    tmp_path_factory, payload, position, byte
):
    folder = tmp_path_factory.mktemp("zip")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", payload)
        archive.writestr("b/c", payload, zipfile.ZIP_DEFLATED)
    data = bytearray(buffer.getvalue())
    data[position % len(data)] = byte
    (folder / "in.zip").write_bytes(data)
    try:
        check(folder / "in.zip")
    except EngineError:
        return
    assert {path.name for path in folder.iterdir()} == {"in.zip", "out"}
    extracted = sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file())
    assert extracted <= 2 * len(payload)
