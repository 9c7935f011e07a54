"""Every model of ../shared/models through HTTP: upload, prune, download, count again with other code.

Prints one line per model. Exit 1 when a file breaks a promise or a model ends in an unexpected way.
"""

import gzip
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from api_schemas.report import Report
from benchmarks.model_run import is_torchscript, passes_checker, runs, same_interface
from benchmarks.output import markdown, note, parser, save, say
from benchmarks.recount import recount
from client import ApiError, Lookahead
from demo.serving import served

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "models"
_MARKS = (
    "<!-- shared models: written by `python -m benchmarks.shared_models --update-readme` -->",
    "<!-- end -->",
)
_JOB_SECONDS = 600.0

#: What the files do not say about their inputs.
INPUTS: Mapping[str, Mapping[str, Any]] = {
    "cnn_mnist_scripted.pt": {"x": [1, 1, 28, 28]},
    "g1_motion_lstm.pt": {"x": [1, 47]},
    "reddit_bytelstm.pt": {"byte_input": {"shape": [1, 20], "dtype": "int64"}},
    "silero_vad.jit": {"x": [1, 512], "sr": {"value": 16000}},
    "vit4mnist_dynquant.ptl": {"img": [1, 1, 28, 28]},
    "speech_silero_vad_If_lstm.onnx": {"input": [1, 576], "state": [2, 1, 128], "sr": {"value": 16000}},
}
#: Files that hold nothing to prune, that ONNX Runtime does not run, or that are no model: the code of each.
REFUSED: Mapping[str, str] = {
    "vit4mnist_dynquant.ptl": "invalid_model",
    "git_lfs_pointer_mobilenetv2.onnx": "unsupported_format",
    "qonnx_espcn_quant.onnx": "invalid_model",
    "resnet2b_state_dict_pickle.pth": "unsupported_format",
    "sklearn_randomforest.onnx": "invalid_model",
    "superres_custom_op.onnx": "invalid_model",
}


@final
@dataclass(frozen=True)
class Case:
    """A file to send, with what it needs."""

    path: Path
    external_data: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The folder tells models apart that are all called model.onnx."""
        folder = self.path.parent.name
        return f"{folder}/{self.path.name}" if self.path.name == "model.onnx" else self.path.name

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Input shapes that the file does not tell."""
        return INPUTS.get(self.path.name, {})

    @property
    def expected(self) -> str:
        """`succeeded`, or the code of the refusal."""
        return REFUSED.get(self.path.name, "succeeded")


@final
@dataclass(frozen=True)
class Row:
    """What came of one model; figures are null where there is no result."""

    name: str
    outcome: str
    expected: str
    message: str = ""
    pruned: int | None = None
    refused: int | None = None
    weights: int | None = None
    sparsity: float | None = None
    recounted: float | None = None
    promises: dict[str, bool] = field(default_factory=dict)
    cosine: float | None = None
    compressed_ratio: float | None = None
    latency_ratio: float | None = None

    @property
    def good(self) -> bool:
        """Whether it ended as it should and every promise holds."""
        return self.outcome == self.expected and all(self.promises.values())


def cases(scratch: Path) -> list[Case]:
    """The shared set; compressed files are unpacked into `scratch`."""
    found = [_case(path, scratch) for path in sorted(SHARED.rglob("*")) if _is_model(path)]
    return sorted(
        found, key=lambda case: (case.path.parent.name == "negative", _is_torchscript(case.path), case.name)
    )


def _is_torchscript(path: Path) -> bool:
    return path.parent.name == "torchscript"


def _is_model(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".tsv", ".data", ".md")


def _case(path: Path, scratch: Path) -> Case:
    if path.suffix == ".gz":
        unpacked = scratch / path.stem
        with gzip.open(path) as packed, unpacked.open("wb") as file:
            shutil.copyfileobj(packed, file)
        return Case(unpacked)
    return Case(path, tuple(path.parent.glob(f"{path.name}.data")))


def measure(client: Lookahead, case: Case, scratch: Path, preset: str, sparsity: float) -> Row:
    """Send one model on its way and examine what comes back."""
    try:
        queued = client.prune(
            case.path,
            preset=preset,
            sparsity=sparsity,
            external_data=case.external_data,
            inputs=case.inputs or None,
        )
        job = client.wait(queued.id, timeout=_JOB_SECONDS)
    except ApiError as refused:
        return Row(case.name, refused.code, case.expected, refused.message)
    if job.error is not None:
        return Row(case.name, job.error.code.value, case.expected, job.error.message)
    report = client.report(job.id)
    after = client.download(job.id, scratch / f"{job.id}{case.path.suffix}")
    return _examined(case, report, after)


def _examined(case: Case, report: Report, after: Path) -> Row:
    counted = recount(case.path, after, (layer.weight for layer in report.layers))
    runnable = _runs(case.path, case.inputs)
    summary, latency = report.summary, report.latency
    return Row(
        name=case.name,
        outcome="succeeded",
        expected=case.expected,
        pruned=len(report.layers),
        refused=len(report.refusals),
        weights=counted.weights,
        sparsity=summary.sparsity,
        recounted=counted.sparsity,
        promises={
            "sparsity": summary.sparsity == counted.sparsity,
            "kept": counted.kept_are_same,
            "others": counted.others_are_same,
            "interface": same_interface(case.path, after),
            "checker": is_torchscript(after) or passes_checker(after) or not passes_checker(case.path),
            "runs": not runnable or _runs(after, case.inputs),
        },
        cosine=summary.output_cosine,
        compressed_ratio=_ratio(summary.compressed_bytes_after, summary.compressed_bytes_before),
        latency_ratio=_ratio(latency.after.median_ms, latency.before.median_ms) if latency else None,
    )


def _runs(path: Path, inputs: Mapping[str, Any]) -> bool:
    """Some uploads do not run as they come; what comes back then need not either."""
    try:
        return runs(path, inputs)
    except Exception as error:  # what a runtime raises is of no one kind
        note(f"{path.name} does not run: {str(error).splitlines()[0][:200]}")
        return False


def _ratio(after: float | None, before: float | None) -> float | None:
    return None if after is None or not before else after / before


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    columns = ("model", "outcome", "layers pruned (left)", "weights", "sparsity = recount")
    more = ("promises", "cosine", "zstd", "latency")
    return markdown((*columns, *more), [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[object, ...]:
    if row.outcome != "succeeded":
        return (row.name, f"`{row.outcome}`", *[""] * 7)
    broken = [name for name, held in row.promises.items() if not held]
    equal = "=" if row.promises["sparsity"] else "≠"
    return (
        row.name,
        "succeeded",
        f"{row.pruned} ({row.refused})",
        f"{row.weights:,}",
        f"{row.sparsity:.4%} {equal} {row.recounted:.4%}",
        "hold" if not broken else "broken: " + ", ".join(broken),
        _figure(row.cosine, "{:.3f}"),
        _figure(row.compressed_ratio, "× {:.2f}"),
        _figure(row.latency_ratio, "× {:.2f}"),
    )


def _figure(value: float | None, form: str) -> str:
    return "not measured" if value is None else form.format(value)


def update_readme(text: str) -> None:
    """Put the table between the marks in README.md."""
    path = ROOT / "README.md"
    head, _, rest = path.read_text(encoding="utf-8").partition(_MARKS[0])
    _, _, tail = rest.partition(_MARKS[1])
    path.write_text(f"{head}{_MARKS[0]}\n{text}\n{_MARKS[1]}{tail}", encoding="utf-8")


def main() -> int:
    """Measure all models, or those named."""
    arguments = parser(__doc__)
    arguments.add_argument("--preset", default="lookahead")
    arguments.add_argument("--sparsity", type=float, default=0.8)
    arguments.add_argument("--server", help="an address, instead of a service of our own")
    arguments.add_argument("--only", default="", help="only models whose name contains this")
    arguments.add_argument("--update-readme", action="store_true")
    options = arguments.parse_args()
    if not SHARED.is_dir():
        say(f"nothing to measure: there is no {SHARED.relative_to(ROOT.parent)} beside the checkout")
        return 0
    rows = []
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shared-models-")))
        url = options.server or stack.enter_context(served(scratch / "service")).url
        client = stack.enter_context(Lookahead(url))
        for case in cases(scratch):
            if options.only in case.name:
                rows.append(measure(client, case, scratch, options.preset, options.sparsity))
                note(f"{rows[-1].name}: {rows[-1].outcome} {rows[-1].message}")
    say(table(rows))
    save(
        options.json,
        {"preset": options.preset, "sparsity": options.sparsity, "rows": [asdict(r) for r in rows]},
    )
    if options.update_readme:
        update_readme(table(rows))
    for row in rows:
        if not row.good:
            note(f"NOT AS IT SHOULD BE: {row}")
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
