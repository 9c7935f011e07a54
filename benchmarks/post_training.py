"""What each recovery gives back to networks that other people trained: accuracy on test images of MNIST and
CIFAR-10.

Four networks of ../shared/models are pruned to 80 % element sparsity, and of half of their channels, by one
job each. Recoveries without labels get 512 training images, fine-tuning gets labelled ones. The test images
are seen by this program alone.
"""

import gzip
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

import numpy as np
import torch

from api_schemas.jobs import InputSpecs
from benchmarks import cifar, jobs
from benchmarks.output import markdown, note, parser, save, say
from worker.engine import formats
from worker.engine.formats.base import LoadOptions

_SHARED = Path(__file__).resolve().parents[2] / "shared"
Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Network:
    """A file, and how it wants pixels: shape of one image, mean and deviation of values between 0 and 1.
    CIFAR-10 is normalised as it is read."""

    file: str
    shape: tuple[int, ...]
    mean: float = 0.0
    deviation: float = 1.0
    input: str | None = None
    images: Literal["mnist", "cifar10"] = "mnist"


NETWORKS: Final = (
    Network("cnn_mnist_burn_op16.onnx", (1, 28, 28), 0.1307, 0.3081),
    Network("mlp_mnist_256x4.onnx", (784, 1)),
    Network("torchscript/cnn_mnist_scripted.pt", (1, 28, 28), input="x"),
    Network("cnn_cifar10_classifier_op10.onnx", (3, 32, 32), images="cifar10"),
)
CUTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "80 % of weights": {"granularity": {"name": "element"}, "target": {"sparsity": 0.8}},
    "50 % of channels": {"granularity": {"name": "channel"}, "target": {"sparsity": 0.5}},
}
#: By what is healed, and which data it gets.
RECOVERIES: Final[Mapping[str, tuple[Mapping[str, Any], str | None]]] = {
    "none": ({"name": "none"}, None),
    "batch_norm": ({"name": "batch_norm"}, "unlabelled"),
    "bias_correction": ({"name": "bias_correction"}, "unlabelled"),
    "reconstruction": ({"name": "reconstruction"}, "unlabelled"),
    "distillation": ({"name": "distillation"}, "unlabelled"),
    "auto, unlabelled": ({"name": "auto"}, "unlabelled"),
    "fine_tune": ({"name": "fine_tune"}, "labelled"),
    "auto, labelled": ({"name": "auto"}, "labelled"),
}


@final
@dataclass(frozen=True)
class Result:
    """One job: accuracy in percent, how much of what was lost came back, and the seconds it took."""

    network: str
    cut: str
    recovery: str
    accuracy: float
    recovered: float | None
    seconds: float


def labelled(network: Network, part: Literal["train", "test"], rows: int) -> tuple[Array, Array]:
    """So many images as the network wants them, in random order for training, and their classes."""
    if network.images == "cifar10":
        read = cifar.read(_SHARED / "data" / "cifar10" / f"cifar10_{part}_jpeg.zip", rows)
        return read.x.numpy(), read.y.numpy()
    pixels, classes = images("train" if part == "train" else "t10k")
    order = np.random.default_rng(0).permutation(len(pixels)) if part == "train" else np.arange(len(pixels))
    return for_network(network, pixels[order[:rows]]), classes[order[:rows]]


def images(part: str) -> tuple[Array, Array]:
    """Pixels between 0 and 1, (rows, 784), and classes."""
    with gzip.open(_SHARED / "data" / "mnist" / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(_SHARED / "data" / "mnist" / f"{part}-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(), np.uint8, offset=8)
    return pixels.astype(np.float32) / 255, classes.astype(np.int64)


def for_network(network: Network, pixels: Array) -> Array:
    """Rows as the network wants them."""
    scaled: Array = ((pixels - network.mean) / network.deviation).astype(np.float32)
    return scaled.reshape(-1, *network.shape)


def accuracy_percent(network: Network, model: Path, rows: Array, classes: Array, scratch: Path) -> float:
    """Run the file row by row, as it was exported, in the runtime its users have."""
    inputs: InputSpecs = {} if network.input is None else {network.input: [1, *network.shape]}
    runner = formats.runner(model, LoadOptions(inputs, scratch), 1)
    right = 0
    for row, label in zip(rows, classes, strict=True):
        scores = runner.run({runner.input_names[0]: row[None]})[0]
        right += int(scores.reshape(-1)[:10].argmax() == label)
    return 100.0 * right / len(classes)


def one_network(network: Network, options: Any, folder: Path) -> list[Result]:
    """Every cut, healed in every way."""
    model = _SHARED / "models" / network.file
    shown = labelled(network, "test", options.test)
    data = _datasets(network, options, folder)
    dense = accuracy_percent(network, model, *shown, folder)
    results = [Result(network.file, "", "dense", dense, None, 0.0)]
    note(str(results[-1]))
    for cut, request in CUTS.items():
        lost = 0.0
        for name, (recovery, rows) in RECOVERIES.items():
            begun = time.monotonic()
            recipe = {"criterion": {"name": "lookahead"}, "recovery": recovery, **request}
            shapes = {} if network.input is None else {network.input: [1, *network.shape]}
            done = jobs.run(
                model, recipe, data[rows] if rows else None, inputs=shapes, threads=options.threads
            )
            seconds = time.monotonic() - begun
            pruned = folder / f"pruned{model.suffix}"
            pruned.write_bytes(done.model)
            found = accuracy_percent(network, pruned, *shown, folder)
            lost = dense - found if name == "none" else lost
            recovered = None if name == "none" or lost <= 0 else 1 - (dense - found) / lost
            results.append(Result(network.file, cut, name, found, recovered, seconds))
            note(str(results[-1]))
    return results


def _datasets(network: Network, options: Any, folder: Path) -> dict[str, Path]:
    rows, classes = labelled(network, "train", max(options.unlabelled, options.labelled))
    paths = {"unlabelled": folder / "unlabelled.npz", "labelled": folder / "labelled.npz"}
    np.savez(paths["unlabelled"], x=rows[: options.unlabelled])
    np.savez(paths["labelled"], x=rows[: options.labelled], targets=classes[: options.labelled])
    return paths


def table(results: Sequence[Result]) -> str:
    """A row for each recovery, a column for each network and cut."""
    columns = list(dict.fromkeys((r.network, r.cut) for r in results if r.cut))
    by = {(r.network, r.cut, r.recovery): r for r in results}
    rows = [(name, *(_cell(by.get((*column, name))) for column in columns)) for name in RECOVERIES]
    dense = [("dense", *(f"{by[network, '', 'dense'].accuracy:.2f}" for network, _ in columns))]
    heads = (f"{Path(network).stem}, {cut}" for network, cut in columns)
    return markdown(("accuracy %", *heads), [*dense, *rows])


def _cell(result: Result | None) -> str:
    if result is None:
        return "–"
    share = "" if result.recovered is None else f" ({result.recovered:.0%})"
    return f"{result.accuracy:.2f}{share}"


def main() -> int:
    """Heal every network in every way and show the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--unlabelled", type=int, default=512, help="training images without labels")
    arguments.add_argument("--labelled", type=int, default=2048, help="training images with labels")
    arguments.add_argument("--test", type=int, default=10_000, help="test images")
    arguments.add_argument("--networks", type=int, nargs="+", default=list(range(len(NETWORKS))))
    arguments.add_argument("--threads", type=int, default=2, help="threads of a job")
    options = arguments.parse_args()
    if not _SHARED.is_dir():
        say("nothing to measure: the shared models are not beside the checkout")
        return 0
    torch.set_num_threads(options.threads)
    results: list[Result] = []
    for index in options.networks:
        with tempfile.TemporaryDirectory(prefix="post-training-") as name:
            results += one_network(NETWORKS[index], options, Path(name))
    say("in brackets: how much of the accuracy that pruning cost came back")
    say(table(results))
    save(options.json, {"results": [asdict(result) for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
