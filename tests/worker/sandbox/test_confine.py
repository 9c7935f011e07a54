"""What `enter` does before it gives anything up, and what the policy grants."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from worker.errors import SandboxUnavailableError
from worker.sandbox import Limits, SandboxMode, confine, enter, landlock, policy, syscalls


def test_strict_refuses_without_landlock_and_gives_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "abi_version", lambda: 0)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    with pytest.raises(SandboxUnavailableError, match=r"no landlock.*LOOKAHEAD_SANDBOX=best_effort"):
        enter(SandboxMode.STRICT, tmp_path)
    assert resource.getrlimit(resource.RLIMIT_CORE) == before
    assert list(Path("/").iterdir())


def test_strict_refuses_without_seccomp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "load_library", lambda: None)
    with pytest.raises(SandboxUnavailableError, match="no seccomp"):
        enter(SandboxMode.STRICT, tmp_path)


def test_off_does_nothing_and_says_so(tmp_path: Path) -> None:
    assert enter(SandboxMode.OFF, tmp_path).describe() == "off"
    assert list(Path("/").iterdir())


def test_strict_refuses_a_process_with_threads(tmp_path: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path; from worker.sandbox import enter, SandboxMode\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "enter(SandboxMode.STRICT, Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert "no single thread" in done.stderr


def test_the_source_tree_around_the_packages_is_not_granted(tmp_path: Path) -> None:
    root = Path(confine.__file__).resolve().parents[2]
    granted = policy.paths(tmp_path, cuda=False)
    assert not any(path == root or path in root.parents for path in (*granted.read, *granted.use))
    assert granted.own == (tmp_path,)


def test_a_gpu_is_granted_only_when_asked_for(tmp_path: Path) -> None:
    without = policy.paths(tmp_path, cuda=False)
    assert not any("nvidia" in str(path) for path in (*without.read, *without.use))


@pytest.mark.parametrize(
    "limits", [{"cpu_seconds": 0, "file_bytes": 1}, {"cpu_seconds": 1, "file_bytes": -1}]
)
def test_limits_are_positive(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        Limits.model_validate(limits)


def test_limits_hold_and_cannot_be_raised(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from worker.sandbox import enter, tighten, Limits, SandboxMode\n"
        "enter(SandboxMode.STRICT, Path(sys.argv[1]))\n"
        "tighten(Limits(cpu_seconds=7, memory_bytes=2**28, file_bytes=2**20))\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU), resource.getrlimit(resource.RLIMIT_FSIZE))\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_AS)[0] < 2**31)\n"
        "try: resource.setrlimit(resource.RLIMIT_CPU, (99, 99))\n"
        "except (ValueError, PermissionError): print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["(7, 12) (1048576, 1048576)", "(0, 0) True", "refused"], done.stderr
