"""Test error on CIFAR-10 of magnitude, lookahead and LAMP at four levels, by jobs: Conv-6 or VGG-11.

The LAP protocol is 30,000 to 35,000 steps of training and 20,000 to 25,000 of retraining at full width, on
50,000 images with crops and flips. Without a GPU that takes days, so the defaults are reduced, and the first
line says how.
Reads ../shared/data/cifar10.
"""

import itertools
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import onnxruntime
import torch

from benchmarks import cifar, jobs
from benchmarks.cifar import Images
from benchmarks.output import markdown, note, parser, save, say, spread

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10"
_PLAIN: Final = {"warm_up": 0.0, "weight_decay": 0.0, "clip": None, "patience": None}
_TRAINING: Final = {"optimiser": "adam", "learning_rate": 3e-4, "rate": "constant", **_PLAIN}
_VALIDATION_ROWS: Final = 500
METHODS: Final = ("magnitude", "lookahead", "lamp")


@final
@dataclass(frozen=True)
class Result:
    """One network: how much of it was left and its error on the test images; `dense` is iteration 0."""

    seed: int
    method: str
    iteration: int
    percent_left: float
    test_error: float


def recipe(
    method: str, shares: Sequence[float], names: Sequence[str], sizes: Sequence[int], steps: int
) -> dict[str, Any]:
    """The layers' cumulative ratios; LAMP gets the same total and finds the layers' shares itself."""
    training = {"name": "fine_tune", "steps": steps, "batch": 60, **_TRAINING}
    if method == "lamp":
        total = sum(share * size for share, size in zip(shares, sizes, strict=True)) / sum(sizes)
        return {"preset": "lamp", "target": {"sparsity": total}, "recovery": training}
    layers = {name: {"sparsity": share} for name, share in zip(names, shares, strict=True)}
    return {
        "criterion": {"name": method},
        "allocation": {"name": "given"},
        "layers": layers,
        "recovery": training,
    }


def one_seed(seed: int, images: Images, test: Images, options: Any) -> list[Result]:
    """Train, then one job for each iteration and method."""
    network = cifar.NETWORKS[options.network]
    net = cifar.train(network.fresh(options.width, seed), images, options.steps, seed)
    names = cifar.weight_names(net)
    sizes = [dict(net.named_parameters())[name].numel() for name in names]
    with tempfile.TemporaryDirectory(prefix="cifar-methods-") as name:
        folder = Path(name)
        model, data = (
            cifar.write_onnx(net, folder / f"{options.network}.onnx"),
            jobs.write_data(folder / "train.npz", images.x, images.y, _VALIDATION_ROWS),
        )
        results = [Result(seed, "dense", 0, 100.0, _error(model.read_bytes(), test))]
        note(str(results[-1]))
        for iteration, method in itertools.product(options.iterations or network.iterations, METHODS):
            shares = [1 - (1 - ratio) ** iteration for ratio in network.step_ratios]
            asked = recipe(method, shares, names, sizes, options.retraining)
            done = jobs.run(model, asked, data, threads=options.threads)
            left = 100 * (1 - done.report.achieved)
            results.append(Result(seed, method, iteration, left, _error(done.model, test)))
            note(str(results[-1]))
    return results


def _error(model: bytes, test: Images) -> float:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return cifar.error_percent(lambda x: np.asarray(session.run(None, {"x": x})[0]), test)


def table(results: Sequence[Result]) -> str:
    """Test error in percent: mean and standard deviation over the seeds, a row for each method."""
    iterations = sorted({result.iteration for result in results} - {0})
    left = {r.iteration: r.percent_left for r in results if r.method == "lookahead"}
    rows = [
        (
            name,
            *(
                spread([r.test_error for r in results if (r.method, r.iteration) == (name, it)])
                for it in iterations
            ),
        )
        for name in METHODS
    ]
    return markdown(("method", *(f"{left[it]:.2f} % left" for it in iterations)), rows)


def _summary(options: Any, results: Sequence[Result], seconds: float) -> Mapping[str, Any]:
    return {
        **{name: getattr(options, name) for name in ("network", "width", "images", "steps", "retraining")},
        "seconds": seconds,
        "results": [asdict(result) for result in results],
    }


def main() -> int:
    """Run the protocol for every seed and show the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, default=_DATA)
    arguments.add_argument("--network", choices=list(cifar.NETWORKS), default="conv6")
    arguments.add_argument("--images", type=int, default=10_000, help="training images; 50,000 in the paper")
    arguments.add_argument("--width", type=float, default=0.5, help="of every layer; 1 in the paper")
    arguments.add_argument("--steps", type=int, default=1500, help="of training; 30,000 in the paper")
    arguments.add_argument("--retraining", type=int, default=500, help="steps; 20,000 in the paper")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments.add_argument("--iterations", type=int, nargs="+", help="at least one; the protocol's else")
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    if not options.data.is_dir():
        say("nothing to measure: CIFAR-10 is not beside the checkout (--data names its folder)")
        return 0
    torch.set_num_threads(options.threads)
    begun = time.monotonic()
    images = cifar.read(options.data / "cifar10_train_jpeg.zip", options.images)
    test = cifar.read(options.data / "cifar10_test_jpeg.zip", 2000)
    results = [result for seed in options.seeds for result in one_seed(seed, images, test, options)]
    dense = [result.test_error for result in results if result.method == "dense"]
    say(
        f"{cifar.NETWORKS[options.network].title} at width {options.width:g}, {options.images} images, "
        f"{options.steps} + {options.retraining} steps, no augmentation, {len(options.seeds)} seed(s): "
        "a reduced protocol"
    )
    say(f"dense: {spread(dense)} % test error")
    say(table(results))
    save(options.json, _summary(options, results, time.monotonic() - begun))
    return 0


if __name__ == "__main__":
    sys.exit(main())
