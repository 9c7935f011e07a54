"""The launcher and its leash, with small stand-ins for service and worker."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.launcher import Child, LaunchError, describe, environment, free_port, local_url, make_plan

SERVICE = """
import http.server, pathlib, os, sys
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
WORKER = """
import os, pathlib, sys, time
with open(sys.argv[1], "a") as file: file.write(f"{os.getpid()}\\n")
time.sleep(600)
"""
LAUNCH = """
import sys
from pathlib import Path
from client.launcher import Launcher, Plan, local_url
python, port, data = sys.executable, int(sys.argv[1]), Path(sys.argv[2])
service = (python, "-c", sys.argv[3], str(port), str(data / "service"))
worker = (python, "-c", sys.argv[4], str(data / "worker"))
plan = Plan(local_url("127.0.0.1", port), data, service, worker)
say = lambda text: sys.stderr.write(text + "\\n")
Launcher(plan, say).run(lambda: (data / "ready").touch())
"""


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about within 30 s")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


@contextmanager
def _launched(data: Path, worker: str = WORKER) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [sys.executable, "-c", LAUNCH, str(free_port("127.0.0.1", 0)), str(data), SERVICE, worker]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE)
    try:
        _until(lambda: (data / "ready").exists() and len(_pids(data / "worker")) > 0)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    with _launched(tmp_path) as process:
        pids = _pids(tmp_path / "service") + _pids(tmp_path / "worker")
        assert all(map(_alive, pids))
        assert len({os.getpgid(pid) for pid in [*pids, process.pid]}) == 3
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        assert not any(map(_alive, pids))


def test_killing_the_launcher_kills_both(tmp_path: Path) -> None:
    with _launched(tmp_path) as process:
        pids = _pids(tmp_path / "service") + _pids(tmp_path / "worker")
        process.kill()
        process.wait()
        _until(lambda: not any(map(_alive, pids)))


def test_a_dead_worker_is_replaced_and_a_dead_service_too(tmp_path: Path) -> None:
    with _launched(tmp_path):
        for file in (tmp_path / "worker", tmp_path / "service"):
            (victim,) = _pids(file)[-1:]
            os.kill(victim, signal.SIGKILL)
            _until(lambda file=file, victim=victim: _pids(file)[-1:] not in ([], [victim]))


def test_a_child_that_does_not_heed_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WORKER
    with _launched(tmp_path, stubborn) as process:
        (pid,) = _pids(tmp_path / "worker")
        process.terminate()
        time.sleep(0.5)
        assert _alive(pid)
        process.terminate()  # the second one ends the patience
        assert process.wait(timeout=10) == 0
        assert not _alive(pid)


def test_a_service_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", LAUNCH, "0", str(tmp_path), "import sys; sys.exit(7)", WORKER]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert "the API ended with exit code 7 before it was ready" in done.stderr
    assert not (tmp_path / "ready").exists()
    assert _pids(tmp_path / "worker") == []


def test_pauses_grow_while_a_child_keeps_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = iter(range(10_000))
    monkeypatch.setattr("client.launcher.time.monotonic", lambda: float(next(clock)))
    child = Child("worker", [sys.executable, "-c", "raise SystemExit(3)"], said.append)
    while len(said) < 7:
        child.look_after()
        time.sleep(0.01)
    child.kill()
    pauses = [line.split()[-2] for line in said]
    assert pauses == ["1", "2", "4", "8", "16", "30", "30"]


def test_ports(tmp_path: Path) -> None:
    plan = make_plan("127.0.0.1", 0, tmp_path)
    port = plan.url.rpartition(":")[2]
    assert port != "0"
    assert port in plan.service
    assert str(tmp_path) in plan.worker
    with pytest.raises(LaunchError, match="cannot listen"):
        free_port("192.0.2.1", 0)  # a documentation address: no machine has it


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:7"),
        ("::", "http://[::1]:7"),
        ("::1", "http://[::1]:7"),
        ("localhost", "http://localhost:7"),
    ],
)
def test_local_addresses(host: str, url: str) -> None:
    assert local_url(host, 7) == url


def test_children_stay_embedded() -> None:
    base = {
        "PATH": "p",
        "LOOKAHEAD_BROKER_URL": "redis://x",
        "LOOKAHEAD_DATABASE_URL": "y",
        "LOOKAHEAD_API_KEYS": "k",
    }
    assert environment(base) == {"PATH": "p", "LOOKAHEAD_API_KEYS": "k"}


def test_exit_statuses_for_people() -> None:
    assert (describe(3), describe(-9)) == ("exit code 3", "signal 9")
