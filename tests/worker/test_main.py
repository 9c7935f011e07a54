"""How a worker process says that it cannot start, and that its log lines cannot be forged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def start(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(
    ("environment", "status", "event"),
    [
        ({"LOOKAHEAD_SANDBOX": "perhaps"}, 2, "settings"),
        ({"LOOKAHEAD_LEASE_SECONDS": "-1"}, 2, "settings"),
        ({"LOOKAHEAD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, 4, "store unreachable"),
    ],
)
def test_it_does_not_start(tmp_path: Path, environment: dict[str, str], status: int, event: str) -> None:
    done = start("--data-dir", str(tmp_path), **environment)
    assert done.returncode == status
    assert json.loads(done.stderr.splitlines()[-1])["event"] == event
    assert "Traceback" not in done.stderr


def test_usage() -> None:
    assert start("--help").returncode == 0
    assert start("--nonsense").returncode == 2


def test_a_log_line_is_one_line_whatever_it_says() -> None:
    text = 'name\n{"level": "forged"}\x1b[2J\u2028'
    code = f"from worker import logs; logs.configure(); logs.log('event', name={text!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["name"] == text and "\x1b" not in line
