"""Rows from wherever they are equal those of the array in memory, whatever is asked for."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from worker.engine.data import image_binding, sources
from worker.engine.data.byte_files import ByteFile
from worker.engine.data.members import Archive, Member, read_members
from worker.engine.data.sources import Held, Index, Joined, Source, Stored, by_columns, spool
from worker.engine.errors import InvalidDatasetError, TooLargeError

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def arrays_and_indices(draw: st.DrawFn) -> tuple[np.ndarray, Index]:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9))
    dtype = draw(st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.bool_]))
    array = np.random.default_rng(draw(st.integers(0, 999))).integers(0, 2, shape).astype(dtype)
    array.reshape(-1)[: shape[0]] = np.arange(shape[0]) % 2
    rows = st.integers(0, shape[0] - 1)
    if draw(st.booleans()):
        return array, slice(draw(rows), draw(st.integers(0, shape[0] + 3)))
    return array, np.array(draw(st.lists(rows, max_size=12)), np.int64)


def file_of(data: bytes) -> ByteFile:
    file = ByteFile.scratch()
    file.write(data, 0)
    return file


def same(source: Source, array: np.ndarray, index: Index) -> None:
    found = source.take(index)
    np.testing.assert_array_equal(found, array[index])
    assert (found.dtype, found.shape) == (array.dtype, array[index].shape)
    if found.size:
        found.reshape(-1)[0] = 1  # memory of its own, to be written to
    np.testing.assert_array_equal(source.take(index), array[index])


@quick
@given(arrays_and_indices(), st.integers(0, 5))
def test_stored_rows(case: tuple[np.ndarray, Index], offset: int) -> None:
    array, index = case
    same(Stored(file_of(bytes(offset) + array.tobytes()), array.dtype, array.shape, offset), array, index)


@quick
@given(arrays_and_indices())
def test_held_rows(case: tuple[np.ndarray, Index]) -> None:
    same(Held(case[0].copy()), *case)


@quick
@given(arrays_and_indices(), st.integers(0, 9))
def test_joined_rows(case: tuple[np.ndarray, Index], at: int) -> None:
    array, index = case
    at = min(at, len(array))
    joined = Joined(Held(array[:at].copy()), at, Held(array[at:].copy()), len(array) - at)
    np.testing.assert_array_equal(joined.take(index), array[index])


@quick
@given(arrays_and_indices(), st.integers(1, 200))
def test_rows_of_an_array_laid_out_by_columns(case: tuple[np.ndarray, Index], block: int) -> None:
    array, index = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_BLOCK_BYTES", block)
        turned = by_columns(file_of(array.tobytes(order="F")), array.dtype, array.shape)
    same(turned, array, index)


@pytest.mark.parametrize("size", [39, 41, 0])
def test_what_is_unpacked_is_as_long_as_it_says(size: int) -> None:
    with pytest.raises(InvalidDatasetError, match="longer or shorter"):
        spool([bytes(size)], np.dtype(np.float32), (5, 2))


def test_a_file_that_ends_too_early_says_so() -> None:
    with pytest.raises(InvalidDatasetError, match="ends too early"):
        Stored(file_of(bytes(10)), np.dtype(np.float32), (5,)).take(slice(None))


def test_a_full_disk_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    file = ByteFile.scratch()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(TooLargeError, match="more than the disk has room for"):
        file.write(b"1", 0)


def member_of(path: Path) -> tuple[Archive, Member]:
    (member,) = read_members(path, 10**6)
    return Archive(path), member


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@quick
@given(st.binary(max_size=300))
def test_members_are_read_as_they_were_written(tmp_path: Path, compression: int, data: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w", compression) as archive:
        archive.writestr("a", data)
    read, member = member_of(tmp_path / "z")
    assert read.read(member) == data


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_refused(tmp_path: Path, compression: int) -> None:
    data = bytes(range(256)) * 4
    with zipfile.ZipFile(tmp_path / "z", "w", compression) as archive:
        archive.writestr("a", data)
    content = bytearray((tmp_path / "z").read_bytes())
    content[45] ^= 0xFF
    (tmp_path / "z").write_bytes(content)
    read, member = member_of(tmp_path / "z")
    with pytest.raises(InvalidDatasetError, match="'a' in the archive"):
        read.read(member)


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("a/1.png", bytes(100))
    monkeypatch.setattr(image_binding, "LARGEST_IMAGE", 99)
    with pytest.raises(TooLargeError, match=r"a/1\.png"):
        image_binding.open_images(tmp_path / "z", read_members(tmp_path / "z", 10**6))
