"""Test error on MNIST after pruning to under 1 % by this engine and retraining: magnitude against lookahead.

The LAP protocol's perceptron is trained, pruned once at the cumulative ratio of iteration 8, 9 or 10 of the
step ratios .5 .5 .5 .5 .25, and trained again with the mask held. Reads ../shared/data/mnist.
"""

import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from api_schemas.recipe import Recipe, RecipeRequest, resolve
from benchmarks import mnist
from benchmarks.mnist import Array, Images, Net
from benchmarks.output import markdown, note, parser, save, say
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
_STEP_RATIOS = (0.5, 0.5, 0.5, 0.5, 0.25)
_CRITERIA = ("magnitude", "lookahead")


@final
@dataclass(frozen=True)
class Protocol:
    """What is run for each seed."""

    data: Path
    steps: int
    iterations: tuple[int, ...]


@final
@dataclass(frozen=True)
class Result:
    """One network: how much of it was left and its error on the test images; `dense` is iteration 0."""

    seed: int
    criterion: str
    iteration: int
    percent_left: float
    test_error: float


def recipe(criterion: str, iteration: int) -> Recipe:
    """The cumulative ratio of an iteration, layer by layer."""
    layers = {
        f"fc{index}": {"sparsity": 1 - (1 - ratio) ** iteration} for index, ratio in enumerate(_STEP_RATIOS)
    }
    request = {"criterion": {"name": criterion}, "allocation": {"name": "given"}, "layers": layers}
    return resolve(RecipeRequest.model_validate(request), {})


def engine_masks(net: Net, criterion: str, iteration: int) -> tuple[Net, list[Array]]:
    """What the engine leaves of a network at an iteration by a criterion."""
    return pruned_by(net, recipe(criterion, iteration))


def pruned_by(net: Net, asked: Recipe) -> tuple[Net, list[Array]]:
    """What the engine leaves of a network: the pruned file read back, and where it is not zero."""
    with tempfile.TemporaryDirectory(prefix="mnist-lap-") as name:
        folder = Path(name)
        source = Source(mnist.write_onnx(net, folder / "mlp.onnx"), "mlp.onnx")
        for part in ("output", "scratch"):
            (folder / part).mkdir()
        saved, _report = prune(source, asked, folder / "output", Context(folder / "scratch"))
        pruned = mnist.read_onnx(saved)
    return pruned, [weight != 0 for weight in pruned.weights]


def one_seed(seed: int, protocol: Protocol) -> list[Result]:
    """Train, then prune and retrain at each iteration by each criterion."""
    torch.set_num_threads(1)
    images, test = mnist.read(protocol.data, "train"), mnist.read(protocol.data, "t10k")
    dense = mnist.train(mnist.fresh(seed), None, images, protocol.steps, seed)
    results = [Result(seed, "dense", 0, 100.0, mnist.error_percent(dense, test))]
    for iteration, criterion in itertools.product(protocol.iterations, _CRITERIA):
        results.append(_retrained(dense, criterion, iteration, images, test, protocol.steps, seed))
        note(str(results[-1]))
    return results


def _retrained(
    dense: Net, criterion: str, iteration: int, images: Images, test: Images, steps: int, seed: int
) -> Result:
    pruned, masks = engine_masks(dense, criterion, iteration)
    again = mnist.train(pruned, masks, images, steps, seed + 1000)
    left = 100 * sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
    for weight, mask in zip(again.weights, masks, strict=True):
        assert not np.any(weight[~mask]), "a pruned weight came back"
    return Result(seed, criterion, iteration, left, mnist.error_percent(again, test))


def table(results: Sequence[Result]) -> str:
    """Errors side by side: the mean over the seeds, and each of them."""
    dense = [result.test_error for result in results if result.criterion == "dense"]
    rows: list[Sequence[object]] = [("100 %", _errors(dense), _errors(dense))]
    for iteration in sorted({result.iteration for result in results} - {0}):
        at = [result for result in results if result.iteration == iteration]
        cells = [_errors([r.test_error for r in at if r.criterion == name]) for name in _CRITERIA]
        rows.append((f"{at[0].percent_left:.2f} %", *cells))
    return markdown(("weights left", *(f"{name}, test error %" for name in _CRITERIA)), rows)


def _errors(values: Sequence[float]) -> str:
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"**{statistics.mean(values):.2f}** ({each})"


def main() -> int:
    """Run the protocol for every seed and show the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, default=_DATA)
    arguments.add_argument("--steps", type=int, default=8000, help="of training, and again of retraining")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--iterations", type=int, nargs="+", default=[8, 9, 10])
    arguments.add_argument("--processes", type=int, default=2)
    options = arguments.parse_args()
    if not options.data.is_dir():
        say("nothing to measure: MNIST is not beside the checkout (--data names its folder)")
        return 0
    begun = time.monotonic()
    protocol = Protocol(options.data, options.steps, tuple(options.iterations))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        running = [pool.submit(one_seed, seed, protocol) for seed in options.seeds]
        results = [result for done in as_completed(running) for result in done.result()]
    results.sort(key=lambda result: (result.iteration, result.criterion, result.seed))
    say(f"{len(options.seeds)} seeds, {options.steps} steps, {time.monotonic() - begun:.0f} s")
    say(table(results))
    save(options.json, {"steps": options.steps, "results": [asdict(result) for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
