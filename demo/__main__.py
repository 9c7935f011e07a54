"""`python -m demo`: train, export, serve, prune each file in four ways over HTTP, show one table."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from api_schemas.errors import ErrorCode
from client import Lookahead, LookaheadError
from client.errors import JobFailedError
from demo import digits, export
from demo.serving import ServiceStartError, served
from demo.table import Outcome, show

_OUTPUT = Path("demo-output")
_JOB_SECONDS = 600.0


@final
@dataclass(frozen=True)
class Method:
    """A way to prune: its name in the table and in file names, and the recipe. With `heals` the training
    images go along, for the service to learn from; else only those that accuracy is measured on."""

    name: str
    recipe: dict[str, Any]
    heals: bool


def _ninety(preset: str, **more: Any) -> dict[str, Any]:
    return {"preset": preset, "target": {"sparsity": 0.9}, **more}


_AS_IT_IS = {"recovery": {"name": "none"}}
METHODS = (
    Method("magnitude", _ninety("magnitude", **_AS_IT_IS), heals=False),
    Method("lookahead", _ninety("lookahead", **_AS_IT_IS), heals=False),
    Method("lookahead-healed", _ninety("lookahead"), heals=True),
    Method("half-the-channels", {"preset": "lookahead_channels", "target": {"sparsity": 0.5}}, heals=True),
)


def main() -> int:
    """0 when every job succeeded; 1 with the reason otherwise."""
    try:
        _demonstrate(_OUTPUT)
    except ServiceStartError as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except LookaheadError as error:
        sys.stderr.write(f"demo: [{error.code}] {error.message}\n{error.hint or ''}\n")
        return 1
    return 0


def _demonstrate(output: Path) -> None:
    output.mkdir(exist_ok=True)
    _say("training a small network on scikit-learn's digits")
    data = digits.load()
    network = digits.train(data)
    files = (
        export.write_onnx(network, output / "digits.onnx"),
        export.write_torchscript(network, output / "digits.pt"),
    )
    held_out = export.write_held_out(data, output / "digits-held-out.npz")
    everything = export.write_everything(data, output / "digits.npz")
    with tempfile.TemporaryDirectory(prefix="lookahead-demo-") as name:
        _say("starting the service")
        with served(Path(name)) as service, Lookahead(service.url) as client:
            outcomes = [
                _prune(client, file, everything if method.heals else held_out, method)
                for file in files
                for method in METHODS
            ]
    show(outcomes)


def _prune(client: Lookahead, file: Path, data: Path, method: Method) -> Outcome:
    """One job from upload to download. Raises `LookaheadError` when it does not succeed."""
    _say(f"pruning {file.name}: {method.name}")
    queued = client.prune(file, recipe=method.recipe, dataset=data)
    job = client.wait(queued.id, timeout=_JOB_SECONDS)
    if job.summary is None:
        raise JobFailedError(job)
    if job.summary.accuracy_after is None:
        raise LookaheadError("accuracy was not measured", code=ErrorCode.INTERNAL.value)
    stem = f"{file.stem}-{method.name}"
    model = client.download(job.id, file.with_name(stem + file.suffix))
    report = file.with_name(f"{stem}{file.suffix.replace('.', '-')}.html")
    report.write_text(client.report_page(job.id), encoding="utf-8")
    return Outcome(file.name, method.name, job.summary, model, report)


def _say(text: str) -> None:
    sys.stdout.write(f"{text} …\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
