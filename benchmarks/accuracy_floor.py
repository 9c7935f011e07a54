"""`accuracy_drop: 1.0` on four networks, and what the downloaded file loses when it is measured again.

The digits of the demonstration (ONNX and TorchScript), the perceptron of the LAP protocol on MNIST, and a
network of ../shared/models. The job holds rows out and measures on them; here the same rows go through the
runtime once more, outside the job. Exit 1 when a file is below the floor.
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch

from api_schemas.jobs import InputSpecs
from benchmarks import jobs, mnist
from benchmarks.output import markdown, note, parser, save, say
from demo import digits, export
from worker.engine import formats
from worker.engine.formats.base import LoadOptions

_SHARED = Path(__file__).resolve().parents[2] / "shared"
_POINTS: Final = 1.0
_RECIPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "weights, not healed": {"preset": "lookahead", "recovery": {"name": "none"}},
    "weights, reconstructed": {"preset": "lookahead", "recovery": {"name": "reconstruction"}},
    "channels, reconstructed": {"preset": "lookahead_channels", "recovery": {"name": "reconstruction"}},
}
Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Case:
    """A file, the data that goes with it, and its rows that the job holds out."""

    name: str
    model: Path
    data: Path
    input: str
    rows: Array
    targets: Array


@final
@dataclass(frozen=True)
class Result:
    """One job: how much went, and the points lost as reported and as measured again."""

    network: str
    recipe: str
    sparsity: float
    reported: float
    measured: float
    seconds: float


def cases(folder: Path) -> Iterator[Case]:
    """The networks, trained here but for the shared one."""
    data = digits.load()
    network = digits.train(data)
    archive = export.write_everything(data, folder / "digits.npz")
    held = data.held_out_images.numpy(), data.held_out_targets.numpy()
    yield Case("digits.onnx", export.write_onnx(network, folder / "digits.onnx"), archive, "image", *held)
    yield Case("digits.pt", export.write_torchscript(network, folder / "digits.pt"), archive, "image", *held)
    if _SHARED.is_dir():
        yield from _on_mnist(folder)


def _on_mnist(folder: Path) -> Iterator[Case]:
    train, test = (mnist.read(_SHARED / "data" / "mnist", part) for part in ("train", "t10k"))
    rows, held = slice(0, 4000), slice(0, 2000)
    trained = mnist.train(mnist.fresh(0), None, train, 2000, 0)
    shapes = {"mlp.onnx": (784,), "cnn_mnist_burn_op16.onnx": (1, 28, 28)}
    files = {
        "mlp.onnx": mnist.write_onnx(trained, folder / "mlp.onnx"),
        "cnn_mnist_burn_op16.onnx": _SHARED / "models" / "cnn_mnist_burn_op16.onnx",
    }
    for name, shape in shapes.items():
        arrays: dict[str, Any] = {
            "x": train.x[rows].numpy().reshape(-1, *shape),
            "targets": train.y[rows].numpy(),
            "validation/x": test.x[held].numpy().reshape(-1, *shape),
            "validation/targets": test.y[held].numpy(),
        }
        archive = folder / f"{name}.npz"
        np.savez(archive, **arrays)
        yield Case(name, files[name], archive, "x", arrays["validation/x"], arrays["validation/targets"])


def accuracy(case: Case, model: Path, scratch: Path) -> float:
    """In percent, row by row, in the runtime that users of the file have."""
    inputs: InputSpecs = {} if model.suffix == ".onnx" else {case.input: [1, *case.rows.shape[1:]]}
    runner = formats.runner(model, LoadOptions(inputs, scratch), 1)
    right = sum(
        int(runner.run({runner.input_names[0]: row[None]})[0].reshape(-1)[:10].argmax() == target)
        for row, target in zip(case.rows, case.targets, strict=True)
    )
    return 100.0 * right / len(case.targets)


def one_case(case: Case, folder: Path) -> list[Result]:
    """Every recipe on one network."""
    before, results = accuracy(case, case.model, folder), []
    for name, recipe in _RECIPES.items():
        begun = time.monotonic()
        asked = {**recipe, "target": {"accuracy_drop": _POINTS}}
        # Unhealed jobs hold nothing out: they measure all rows that they are given.
        data = case.data if recipe["recovery"]["name"] != "none" else _held_out(case, folder)
        done = jobs.run(case.model, asked, data, threads=2)
        found = folder / f"pruned{case.model.suffix}"
        found.write_bytes(done.model)
        lost = before - accuracy(case, found, folder)
        reported = done.report.target_achieved
        seconds = time.monotonic() - begun
        results.append(Result(case.name, name, done.report.achieved, reported or 0.0, lost, seconds))
        note(str(results[-1]))
    return results


def _held_out(case: Case, folder: Path) -> Path:
    path = folder / "held-out.npz"
    arrays: dict[str, Any] = {case.input: case.rows, "targets": case.targets}
    np.savez(path, **arrays)
    return path


def main() -> int:
    """Run every case and show the table."""
    options = parser(__doc__).parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory(prefix="accuracy-floor-") as name:
        results = [result for case in cases(Path(name)) for result in one_case(case, Path(name))]
    rows = [
        (
            r.network,
            r.recipe,
            f"{r.sparsity:.1%}",
            f"{r.reported:.2f}",
            f"{r.measured:.2f}",
            f"{r.seconds:.0f}",
        )
        for r in results
    ]
    heads = ("network", "recipe", "weights gone", "points lost, reported", "measured again", "seconds")
    say(markdown(heads, rows))
    save(options.json, {"points": _POINTS, "results": [asdict(result) for result in results]})
    return int(any(result.measured > _POINTS + 1e-9 for result in results))


if __name__ == "__main__":
    sys.exit(main())
