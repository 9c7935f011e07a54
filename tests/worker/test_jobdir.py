"""Directories of children, and of children whose supervisor is gone."""

import os
import subprocess
import sys
from pathlib import Path

from worker import jobdir
from worker.jobdir import JobDirectory


def test_a_directory_is_private_and_goes_with_its_owner(tmp_path: Path) -> None:
    made = JobDirectory(tmp_path)
    assert made.root.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in made.work.iterdir()) == ["checkpoint", "input", "output", "tmp"]
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_leaves_what_is_in_use_and_takes_what_is_not(tmp_path: Path) -> None:
    used = JobDirectory(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from worker.jobdir import JobDirectory\n"
        "JobDirectory(Path(sys.argv[1])); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert len(list(tmp_path.iterdir())) == 2
    assert jobdir.sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [used.root]
    used.close()


def test_a_sweep_of_nothing(tmp_path: Path) -> None:
    assert jobdir.sweep(tmp_path / "missing") == 0


def test_links_are_neither_followed_nor_swept(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    scratch = tmp_path / "scratch"
    made = JobDirectory(scratch)
    (made.work / "link").symlink_to(outside)
    (scratch / "link").symlink_to(outside)
    (made.work / "large").write_bytes(bytes(1 << 20))
    assert 1 << 20 <= made.bytes_used() < 2 << 20
    jobdir.sweep(scratch)
    made.close()
    assert (outside / "kept").read_text() == "kept"
    assert os.listdir(scratch) == ["link"]
