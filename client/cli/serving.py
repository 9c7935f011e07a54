"""`lookahead serve | worker`: the processes of a server."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from client.cli import options, screen
from client.launcher import Launcher, LaunchError, is_open_to_others, make_plan


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    data_dir: Annotated[
        Path, typer.Option(envvar="LOOKAHEAD_DATA_DIR", help="Where jobs, models and reports are kept.")
    ] = Path(".lookahead"),
    ready_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the address here once the service is ready.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Run the API and one worker on this machine, with nothing else needed. Ctrl-C stops both."""
    _require("api", "uvicorn")
    _require("worker", "torch")
    plan = make_plan(host, port, data_dir)
    if is_open_to_others(host) and not os.environ.get("LOOKAHEAD_API_KEYS"):
        screen.note(f"warning: {host} is open to other machines and no LOOKAHEAD_API_KEYS are set")

    def on_ready() -> None:
        if json:
            screen.write_json({"url": plan.url, "pid": os.getpid(), "data_dir": str(plan.data_dir)})
        else:
            screen.write(f"Lookahead is ready at {plan.url}")
        if ready_file is not None:
            part = ready_file.with_name(f"{ready_file.name}.part")
            part.write_text(f"{plan.url}\n", encoding="ascii")
            part.replace(ready_file)

    Launcher(plan, screen.note).run(on_ready)


def worker(context: typer.Context) -> None:
    """Run a worker; every option goes to `python -m worker`. Settings come from LOOKAHEAD_… variables."""
    _require("worker", "torch")
    command = [sys.executable, "-P", "-m", "worker", *context.args]
    os.execv(sys.executable, command)  # noqa: S606 - the worker takes this process, and its signals, over


def _require(extra: str, module: str) -> None:
    if find_spec(module) is None:
        raise LaunchError(
            f"the {extra} is not installed here: {module} is missing",
            hint=f"pip install 'lookahead-compression[{extra}]'",
        )
