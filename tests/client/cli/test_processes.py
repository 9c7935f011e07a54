"""The command as a process: streams, signals, pipes."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client import answers
from tests.client.cli.test_commands import MODEL, Service
from tests.client.scripted import Answered, Asked, answer, serving

COMMAND = [sys.executable, "-m", "client.cli"]


def _environment(url: str, **more: str) -> dict[str, str]:
    return {**os.environ, "LOOKAHEAD_SERVER": url, **more}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(b"model")
    return tmp_path / "m.onnx"


def test_data_to_stdout_and_the_rest_to_stderr(model: Path) -> None:
    with serving(Service()) as server:
        done = subprocess.run(
            [*COMMAND, "prune", str(model), "--sparsity", "0.8", "--json", "-o", "out.onnx"],
            cwd=model.parent,
            env=_environment(server.url),
            capture_output=True,
            text=True,
            check=True,
        )
    assert json.loads(done.stdout)["output"] == "out.onnx"
    assert "scoring" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert (model.parent / "out.onnx").read_bytes() == MODEL


def test_interrupt_names_the_job_and_leaves_it_alone(model: Path) -> None:
    waiting: list[str] = []

    def script(asked: Asked) -> Answered:
        if asked.path == "/v1/prune":
            return answer(answers.job(), 202)
        waiting.append(asked.path)
        kind = {"Content-Type": "text/event-stream"}
        return Answered(200, kind, b": hello\n\n", hold=30 if asked.path.endswith("events") else 0)

    with serving(script) as server:
        process = subprocess.Popen(
            [*COMMAND, "prune", str(model), "--sparsity", "0.8"],
            cwd=model.parent,
            env=_environment(server.url),
            stderr=subprocess.PIPE,
            text=True,
            # A shell that runs tests in the background has them ignore SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while not waiting:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"`lookahead wait {answers.JOB_ID}` resumes" in stderr
    assert f"`lookahead cancel {answers.JOB_ID}` stops it" in stderr
    assert "Traceback" not in stderr
    assert not any(path.endswith("cancel") for path in server.paths())


def test_a_reader_that_has_had_enough() -> None:
    page = {"items": [answers.job("failed") for _ in range(500)]}
    with serving(lambda asked: answer(page)) as server:
        process = subprocess.Popen(
            [*COMMAND, "jobs", "--json"],
            env=_environment(server.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        process.wait(timeout=20)


def _on_a_terminal(arguments: list[str], environment: dict[str, str], cwd: Path) -> str:
    reader, writer = pty.openpty()
    process = subprocess.Popen(
        arguments, env=environment, cwd=cwd, stdout=writer, stderr=writer, stdin=writer
    )
    os.close(writer)
    seen = b""
    try:
        while chunk := os.read(reader, 65536):
            seen += chunk
    except OSError:
        pass  # how Linux says that the other side is closed
    os.close(reader)
    assert process.wait(timeout=20) == 0
    return seen.decode()


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_gets_a_bar_and_no_colour_when_asked(model: Path, no_colour: bool) -> None:
    more = {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if no_colour else {})
    with serving(Service()) as server:
        environment = _environment(server.url, **more)
        if not no_colour:
            environment.pop("NO_COLOR", None)
        seen = _on_a_terminal([*COMMAND, "prune", str(model)], environment, model.parent)
    assert "━" in seen
    coloured = re.search(r"\x1b\[[0-9;]*3[0-9]", seen) is not None
    assert coloured != no_colour


def test_missing_parts_say_what_to_install(model: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['uvicorn'] = None\n"
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('torch', 'uvicorn') else real(name, *a)\n"
        "from client.cli import main; main()"
    )
    for arguments in (["prune", str(model), "--local"], ["serve"], ["worker"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=model.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in (2, 4)
        assert "pip install 'lookahead-compression[" in done.stderr
        assert "Traceback" not in done.stderr


def test_the_client_imports_nothing_heavy() -> None:
    code = "import client, client.cli, sys; print([m for m in sys.modules if m.split('.')[0] in BAD])"
    bad = (
        "BAD = {'torch', 'numpy', 'onnx', 'sqlalchemy', 'celery', 'fastapi', 'store', 'service', 'worker'}\n"
    )
    done = subprocess.run([sys.executable, "-c", bad + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
