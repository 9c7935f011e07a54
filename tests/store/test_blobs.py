"""Blobs: whole or not at all, in a folder and in memory."""

import hashlib
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.blobs import BlobStore
from store.errors import BlobError

CONTENT = bytes(range(256)) * 40_000  # more than one chunk
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(params=["file", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    url = (tmp_path / "blob store").as_uri() if request.param == "file" else "memory:///"
    return BlobStore(url, tmp_path / "data")


@pytest.fixture
def file_blobs(tmp_path: Path) -> BlobStore:
    return BlobStore((tmp_path / "blob store").as_uri(), tmp_path / "data")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.onnx"
    path.write_bytes(CONTENT)
    return path


def staged(blobs: BlobStore, content: bytes = CONTENT, name: str = "upload") -> Path:
    path = blobs.staging_dir() / name
    path.write_bytes(content)
    return path


def address(blobs: BlobStore, digest: str) -> Path:
    return blobs.staging_dir().parent / "sha256" / digest[:2] / digest


def test_a_published_file_comes_back(blobs: BlobStore, source: Path, tmp_path: Path) -> None:
    assert not blobs.exists(DIGEST)
    ref = blobs.publish(source, "net.onnx")
    assert (ref.sha256, ref.size_bytes, ref.filename) == (DIGEST, len(CONTENT), "net.onnx")
    assert blobs.exists(DIGEST) and blobs.size(DIGEST) == len(CONTENT)
    assert blobs.read(DIGEST) == CONTENT
    blobs.fetch(DIGEST, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert (tmp_path / "copy").stat().st_nlink == 1
    assert list(blobs.staging_dir().iterdir()) == []


def test_a_file_of_ours_is_moved_and_any_other_left_alone(blobs: BlobStore, source: Path) -> None:
    upload = staged(blobs)
    nested = blobs.staging_dir() / "job" / "upload"
    nested.parent.mkdir()
    nested.write_bytes(b"nested")
    blobs.publish(upload, "a", DIGEST)
    blobs.publish(nested, "b")
    blobs.publish(source, "c")
    assert not upload.exists() and not nested.exists()
    assert source.read_bytes() == CONTENT and os.access(source, os.W_OK)


def test_an_upload_is_moved_not_copied(file_blobs: BlobStore) -> None:
    upload = staged(file_blobs)
    inode = upload.stat().st_ino
    file_blobs.publish(upload, "a")
    assert address(file_blobs, DIGEST).stat().st_ino == inode


def test_whoever_holds_the_source_open_cannot_change_the_blob(file_blobs: BlobStore, source: Path) -> None:
    second_name = file_blobs.staging_dir() / "hard link"
    os.link(source, second_name)
    for path in (source, second_name):
        file_blobs.publish(path, "a")
        source.write_bytes(b"changed")
        assert file_blobs.read(DIGEST) == CONTENT
        source.write_bytes(CONTENT)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "missing"])
def test_only_regular_files_are_published(blobs: BlobStore, source: Path, kind: str) -> None:
    path = blobs.staging_dir() / "odd"
    make = {"link": lambda: path.symlink_to(source), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}
    make.get(kind, lambda: None)()
    with pytest.raises(BlobError):
        blobs.publish(path, "odd")
    assert not blobs.exists(DIGEST)


def test_a_wrong_digest_publishes_nothing(blobs: BlobStore, source: Path) -> None:
    for path in (source, staged(blobs)):
        with pytest.raises(BlobError, match=DIGEST):
            blobs.publish(path, "net.onnx", "0" * 64)
    assert not blobs.exists(DIGEST) and not blobs.exists("0" * 64)


def test_an_empty_file_is_a_blob_too(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    ref = blobs.publish(tmp_path / "empty", "empty")
    assert (ref.size_bytes, blobs.read(ref.sha256), list(blobs.stream(ref.sha256))) == (0, b"", [])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(start=st.integers(0, 1100), end=st.none() | st.integers(0, 1100), chunk=st.integers(1, 1200))
def test_a_stream_is_a_slice(blobs: BlobStore, start: int, end: int | None, chunk: int) -> None:
    content = bytes(i % 251 for i in range(1000))
    digest = hashlib.sha256(content).hexdigest()
    if not blobs.exists(digest):
        blobs.publish(staged(blobs, content), "x")
    assert b"".join(blobs.stream(digest, start, end, chunk)) == content[start:end]


def test_a_stream_comes_in_pieces(blobs: BlobStore) -> None:
    blobs.publish(staged(blobs), "x")
    pieces = list(blobs.stream(DIGEST, 5, chunk=1_000_000))
    assert all(type(piece) is bytes for piece in pieces)
    assert len(pieces) > 10 and max(map(len, pieces)) <= 1_000_000
    assert b"".join(pieces) == CONTENT[5:]


def test_a_stream_crosses_windows(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.blobs._WINDOW_BYTES", 1_000_003)
    blobs.publish(staged(blobs), "x")
    assert b"".join(blobs.stream(DIGEST, 7, len(CONTENT) - 7)) == CONTENT[7:-7]


def test_a_stream_of_nonsense_is_refused(blobs: BlobStore) -> None:
    blobs.publish(staged(blobs), "x")
    for options in ({"start": -1}, {"chunk": 0}):
        with pytest.raises(ValueError, match="range"):
            blobs.stream(DIGEST, **options)


def test_a_missing_blob_is_said_to_be(blobs: BlobStore, tmp_path: Path) -> None:
    calls = {
        "fetch": lambda: blobs.fetch(DIGEST, tmp_path / "x"),
        "size": lambda: blobs.size(DIGEST),
        "read": lambda: blobs.read(DIGEST),
        "stream": lambda: blobs.stream(DIGEST),
    }
    for call in calls.values():
        with pytest.raises(BlobError, match=DIGEST):
            call()
    assert not (tmp_path / "x").exists()
    blobs.delete(DIGEST)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_only_digests_are_names(blobs: BlobStore, name: str) -> None:
    for call in (blobs.exists, blobs.read, blobs.delete):
        with pytest.raises(BlobError, match="digest"):
            call(name)


def test_damage_is_noticed(file_blobs: BlobStore, tmp_path: Path) -> None:
    file_blobs.publish(staged(file_blobs), "x")
    damaged = address(file_blobs, DIGEST)
    damaged.chmod(0o644)
    damaged.write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(BlobError, match="damaged"):
        file_blobs.read(DIGEST)
    with pytest.raises(BlobError, match="damaged"):
        file_blobs.fetch(DIGEST, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_blob_that_goes_while_it_is_read_is_said_to_be(blobs: BlobStore) -> None:
    blobs.publish(staged(blobs), "x")
    pieces = blobs.stream(DIGEST)
    blobs.delete(DIGEST)
    with pytest.raises(BlobError, match="cannot be read"):
        next(pieces)


def test_a_file_being_read_outlives_its_deletion(file_blobs: BlobStore) -> None:
    file_blobs.publish(staged(file_blobs), "x")
    pieces = file_blobs.stream(DIGEST, chunk=65_536)
    first = next(pieces)
    file_blobs.delete(DIGEST)
    assert first + b"".join(pieces) == CONTENT


def test_a_place_that_cannot_be_written_is_an_error_of_ours(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.publish(staged(blobs), "x")
    with pytest.raises(BlobError, match="cannot be fetched"):
        blobs.fetch(DIGEST, tmp_path / "no" / "such" / "folder")


def test_a_store_that_does_not_answer_is_an_error_of_ours(file_blobs: BlobStore) -> None:
    file_blobs.publish(staged(file_blobs), "x")
    shelf = address(file_blobs, DIGEST).parent
    address(file_blobs, DIGEST).unlink()
    shelf.rmdir()
    shelf.write_text("in the way")
    for call in (file_blobs.exists, file_blobs.delete):
        with pytest.raises(BlobError):
            call(DIGEST)
    with pytest.raises(BlobError, match="cannot be stored"):
        file_blobs.publish(staged(file_blobs), "x")


@pytest.mark.parametrize("url", ["nonsense://x", "no url"])
def test_an_unknown_kind_of_store_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(BlobError, match="opened"):
        BlobStore(url, tmp_path)


def test_equal_content_published_at_once_is_one_blob(blobs: BlobStore, source: Path) -> None:
    def publish(number: int) -> str:
        path = source if number % 2 else staged(blobs, name=f"upload{number}")
        return blobs.publish(path, f"{number}").sha256

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(publish, range(16))) == {DIGEST}
    assert blobs.read(DIGEST) == CONTENT
    assert list(blobs.old(-60)) == [DIGEST]
    assert list(blobs.staging_dir().iterdir()) == []


_CRASH = """
    import os, signal, sys
    from pathlib import Path
    from store import blobs
    die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    if sys.argv[3] == "after copying":
        blobs.BlobStore._publish_staged = die
    elif sys.argv[3] == "before the rename":
        Path.replace = die
    else:
        real = Path.replace
        Path.replace = lambda self, target: (real(self, target), die())
    blobs.BlobStore(sys.argv[1], Path(".")).publish(Path(sys.argv[2]), "x")
"""


@pytest.mark.parametrize("moment", ["after copying", "before the rename", "after the rename"])
def test_a_crash_leaves_the_whole_blob_or_litter_that_is_swept(
    file_blobs: BlobStore, source: Path, moment: str
) -> None:
    url = file_blobs.staging_dir().parent.as_uri()
    arguments = [sys.executable, "-c", textwrap.dedent(_CRASH), url, str(source), moment]
    assert subprocess.run(arguments, check=False, cwd=source.parent).returncode == -9
    litter = 0 if moment == "after the rename" else 1
    assert file_blobs.exists(DIGEST) == (litter == 0)
    assert file_blobs.sweep_staging(3600) == 0
    assert file_blobs.sweep_staging(-1) == litter
    file_blobs.publish(source, "x")
    assert file_blobs.read(DIGEST) == CONTENT


def test_the_sweep_takes_what_nobody_has_written_to(blobs: BlobStore, source: Path) -> None:
    old, fresh = staged(blobs, name="old"), staged(blobs, name="fresh")
    folder, link = blobs.staging_dir() / "folder", blobs.staging_dir() / "link"
    folder.mkdir()
    (folder / "part").touch()
    link.symlink_to(source.parent)
    hour_ago = time.time() - 3600
    for path in (old, folder, link):
        os.utime(path, (hour_ago, hour_ago), follow_symlinks=False)
    assert blobs.sweep_staging(1800) == 3
    assert list(blobs.staging_dir().iterdir()) == [fresh]
    assert source.exists()


def test_sweeps_may_meet(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    staged(blobs)
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        status = real(path)
        path.unlink()
        return status

    monkeypatch.setattr(Path, "lstat", lstat)
    assert blobs.sweep_staging(-1) == 0


_MEMORY = """
    import resource, sys
    from pathlib import Path
    from store.blobs import BlobStore
    folder, size = Path(sys.argv[1]), 200 * 2**20
    with (folder / "large").open("wb") as file:
        file.truncate(size)
    blobs = BlobStore((folder / "blobs").as_uri(), folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ref = blobs.publish(folder / "large", "large")
    blobs.fetch(ref.sha256, folder / "copy")
    assert sum(map(len, blobs.stream(ref.sha256, 10))) == size - 10
    sys.stdout.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_large_files_need_no_memory(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", textwrap.dedent(_MEMORY), str(tmp_path)]
    grown = int(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    assert grown < 48 * 1024, f"{grown} KiB for a file of 200 MiB"
