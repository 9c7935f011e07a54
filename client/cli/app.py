"""Assembly of the `lookahead` command."""

import sys
from io import TextIOWrapper

import typer

from client.cli import catalogue, jobs, models, pruning, serving
from client.cli.exits import GuardedGroup

app = typer.Typer(
    name="lookahead",
    cls=GuardedGroup,
    help="Prune ONNX and TorchScript models with a Lookahead server, and prove what was done.",
    epilog="Exit codes: 0 done, 1 job failed, 2 usage, 3 a gate was not met, 4 server or auth, 124 timeout.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    pruning.prune,
    models.validate,
    models.inspect,
    jobs.jobs,
    jobs.show,
    jobs.wait,
    jobs.cancel,
    jobs.report,
    jobs.download,
    catalogue.methods,
    catalogue.presets,
    serving.serve,
):
    app.command()(command)
app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)(serving.worker)


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an old locale must not turn a × into a traceback
    app(prog_name="lookahead")
    sys.exit(0)
