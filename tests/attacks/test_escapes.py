"""Every attempt to leave the sandbox fails; every one of them works without it."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker.sandbox import SandboxMode, selftest
from worker.sandbox.attempts import ATTEMPTS, FATAL

_NOBODY = 65534
_AS_NOBODY = f"""
import os, sys
from worker.sandbox import attempts, syscalls
syscalls.load_library()
os.setgroups([])
os.setgid({_NOBODY})
os.setuid({_NOBODY})
attempts.main(*sys.argv[1:])
"""


def attempt(directory: Path, mode: SandboxMode, *fatal: str) -> "subprocess.CompletedProcess[str]":
    module = [sys.executable, "-s", "-P", "-B", "-m", "worker.sandbox.attempts"]
    command = [*module, str(directory), str(mode), *fatal]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "outer" / "work"
    made.mkdir(parents=True)
    return made


def test_nothing_gets_through_under_strict(directory: Path) -> None:
    done = attempt(directory, SandboxMode.STRICT)
    assert done.stdout.splitlines() == ["sandbox: strict", "done"], done
    assert done.returncode == 0
    assert not (directory.parent / "escaped").exists()


def test_without_a_sandbox_the_attempts_work_but_for_the_limits(directory: Path) -> None:
    """Otherwise the test above would show nothing. The limits are set in any mode."""
    lines = attempt(directory, SandboxMode.OFF).stdout.splitlines()
    limited = {"large file", "large memory"}
    link = set() if os.stat("/etc").st_dev == directory.stat().st_dev else {"hard link"}
    assert {line for line in lines if line.startswith("breach")} == {
        f"breach: {name}" for name in set(ATTEMPTS) - limited - link
    }


@pytest.mark.parametrize("name", sorted(FATAL))
def test_an_attack_ends_the_process_with_sigsys(directory: Path, name: str) -> None:
    done = attempt(directory, SandboxMode.STRICT, name)
    assert done.returncode == -signal.SIGSYS
    assert f"breach: {name}" not in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_holds_without_root() -> None:
    """As nobody, who has no capability to give up. The interpreter may lie where only root can read."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder, "work")
        directory.mkdir()
        for path in (Path(folder), directory):
            os.chown(path, _NOBODY, _NOBODY)
        command = [sys.executable, "-c", _AS_NOBODY, str(directory), "strict", "execve"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == ["sandbox: strict", "done"], done
        assert done.returncode == -signal.SIGSYS


def test_the_self_test_says_that_it_holds(tmp_path: Path) -> None:
    test = selftest.run(SandboxMode.STRICT, tmp_path)
    assert test.holds and test.describe() == "strict"
    assert list(tmp_path.iterdir()) == []


def test_the_self_test_sees_a_breach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that no layer stops is named, and so is an exec that worked."""
    monkeypatch.setattr(selftest, "_COMMAND", [sys.executable, "-c", "print('breach: socket\\ndone')"])
    test = selftest.run(SandboxMode.BEST_EFFORT, tmp_path)
    assert not test.holds
    assert test.breaches == ("socket", "execve")
    assert test.describe() == "best_effort; got through: socket, execve"


def test_the_self_test_survives_a_child_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "_COMMAND", [str(tmp_path / "missing")])
    test = selftest.run(SandboxMode.STRICT, tmp_path)
    assert not test.holds and test.describe().startswith("unavailable: ")
