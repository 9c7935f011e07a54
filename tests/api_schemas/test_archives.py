"""Hostile and honest zip archives against the preflight; `zipfile` itself writes the honest ones."""

import io
import stat
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.archives import ArchiveError, ArchiveLimits, check_archive, is_safe_name


def pack(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def reason(data: bytes, **limits: int) -> str:
    with pytest.raises(ArchiveError) as caught:
        check_archive(io.BytesIO(data), ArchiveLimits(**limits))
    return caught.value.reason


names = st.text("abcdefgh/.", min_size=1, max_size=12).filter(is_safe_name)


@settings(max_examples=60)
@given(
    st.dictionaries(names, st.binary(max_size=300), max_size=6),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_what_zipfile_writes_passes_whole(members: dict[str, bytes], method: int) -> None:
    data = pack(*members.items(), method=method)
    found = check_archive(io.BytesIO(data))
    assert {member.filename: member.file_size for member in found} == {
        name: len(content) for name, content in members.items()
    }


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_archive_passes_or_is_refused_but_never_crashes(data: st.DataObject) -> None:
    whole = bytearray(pack(("a.onnx", b"x" * 50), ("w/b.bin", b"y" * 80), method=zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        check_archive(io.BytesIO(bytes(whole[: data.draw(st.integers(0, len(whole)))])))
    except ArchiveError as error:
        assert error.reason


@pytest.mark.parametrize(
    "name", ["../a", "/etc/passwd", "a/../b", "a\\b", "C:/x", "a//b", "./a", "a\nb", "..", ""]
)
def test_unsafe_names(name: str) -> None:
    assert not is_safe_name(name)


@pytest.mark.parametrize(
    "name", ["a", "weights/a.bin", "a b", "folder/", "ä/ö.bin", "..a", "a..b", "x:0.npy", "onnx::Gemm_0.npy"]
)
def test_safe_names(name: str) -> None:
    assert is_safe_name(name)


def test_a_member_outside_the_root_is_refused() -> None:
    assert "unsafe name" in reason(pack(("../../x", b"1")))


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        data = pack(("a", b"1"), ("a", b"2"))
    assert "two members" in reason(data)


def test_links_are_refused() -> None:
    link = zipfile.ZipInfo("weights.bin")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert "link" in reason(pack((link, b"/etc/passwd")))


def test_encrypted_members_are_refused() -> None:
    data = bytearray(pack(("a", b"1")))
    at = data.index(b"PK\x01\x02") + 8
    data[at] |= 1
    assert "encrypted" in reason(bytes(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_odd_compression_is_refused(method: int) -> None:
    assert "neither stored nor deflated" in reason(pack(("a", b"1" * 100), method=method))


def test_a_bomb_is_refused_by_its_ratio() -> None:
    data = pack(("a", bytes(4 * 2**20)), method=zipfile.ZIP_DEFLATED)
    assert len(data) < 10_000
    assert "200 times" in reason(data)


def test_the_sum_of_sizes_is_limited() -> None:
    data = pack(("a", b"x" * 600), ("b", b"x" * 600))
    with pytest.raises(ArchiveError) as caught:
        check_archive(io.BytesIO(data), ArchiveLimits(unpacked_bytes=1000))
    assert caught.value.too_large


def test_the_number_of_members_is_limited_before_they_are_read() -> None:
    assert "members" in reason(pack(*((str(number), b"") for number in range(20))), members=19)


def test_a_directory_that_claims_to_be_huge_is_refused() -> None:
    data = bytearray(pack(("a", b"1")))
    end = data.rindex(b"PK\x05\x06")
    struct.pack_into("<L", data, end + 12, 2**31)
    assert "directory is too large" in reason(bytes(data))


def test_a_stored_member_that_lies_about_its_size_is_refused() -> None:
    data = bytearray(pack(("a", b"12345678")))
    struct.pack_into("<L", data, data.index(b"PK\x01\x02") + 24, 9)
    assert "lies about its size" in reason(bytes(data))


def test_a_local_header_that_names_something_else_is_refused() -> None:
    data = bytearray(pack(("aaaa", b"1")))
    data[30] = ord("b")
    assert "disagree" in reason(bytes(data))


def test_overlapping_members_are_refused() -> None:
    data = bytearray(pack(("a", b"12345678"), ("b", b"12345678")))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[second + 42 : second + 46] = data[data.index(b"PK\x01\x02") + 42 :][:4]
    data[second + 46] = ord("a")
    assert reason(bytes(data))


def test_a_zip64_directory_is_understood() -> None:
    """A stream of unknown length makes `zipfile` write zip64 records."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as member:
        member.write(b"12345")
    assert [found.file_size for found in check_archive(buffer)] == [5]


def test_a_cut_archive_is_refused() -> None:
    assert "cut short" in reason(pack(("a", b"x" * 100))[:80])
