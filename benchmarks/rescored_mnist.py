"""Test error on MNIST at 0.12 % of the weights after retraining: one lookahead cut against many small ones.

The LAP protocol's perceptron is trained, pruned to the ratios of iteration 10 with the schedule `rescored` of
1, 10 and 50 cuts (1 cut is the published score), and trained again. Reads ../shared/data/mnist.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

import torch

from api_schemas.recipe import PartSpec, Recipe
from benchmarks import mnist
from benchmarks.mnist_lap import pruned_by, recipe
from benchmarks.output import markdown, note, parser, save, say

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
_ITERATION = 10


@final
@dataclass(frozen=True)
class Result:
    """One pruned and retrained network. `seconds` is what loading, pruning, saving and verifying took."""

    seed: int
    cuts: int
    percent_left: float
    test_error: float
    seconds: float


def rescored(cuts: int) -> Recipe:
    """Lookahead at the protocol's ratios, in so many cuts."""
    schedule = PartSpec.model_validate({"name": "rescored", "steps": cuts})
    return recipe("lookahead", _ITERATION).model_copy(update={"schedule": schedule})


def one_seed(seed: int, data: Path, steps: int, cuts: Sequence[int]) -> list[Result]:
    """Train once; prune and retrain for each number of cuts."""
    images, test = mnist.read(data, "train"), mnist.read(data, "t10k")
    dense = mnist.train(mnist.fresh(seed), None, images, steps, seed)
    note(f"seed {seed}: dense {mnist.error_percent(dense, test):.2f} %")
    results = []
    for count in cuts:
        begun = time.monotonic()
        pruned, masks = pruned_by(dense, rescored(count))
        seconds = time.monotonic() - begun
        again = mnist.train(pruned, masks, images, steps, seed + 1000)
        left = 100 * sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)
        results.append(Result(seed, count, left, mnist.error_percent(again, test), seconds))
        note(str(results[-1]))
    return results


def table(results: Sequence[Result]) -> str:
    """One line for each number of cuts: the mean error over the seeds, each of them, and the time."""
    rows = []
    for cuts in sorted({result.cuts for result in results}):
        at = [result for result in results if result.cuts == cuts]
        errors = [result.test_error for result in at]
        each = ", ".join(f"{error:.2f}" for error in errors)
        seconds = statistics.mean(result.seconds for result in at)
        rows.append(
            (
                cuts,
                f"{at[0].percent_left:.2f} %",
                f"**{statistics.mean(errors):.2f}** ({each})",
                f"{seconds:.1f}",
            )
        )
    return markdown(("cuts", "weights left", "test error %", "pruning, s"), rows)


def main() -> int:
    """Run every seed and show the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, default=_DATA)
    arguments.add_argument("--steps", type=int, default=4000, help="of training, and again of retraining")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--cuts", type=int, nargs="+", default=[1, 10, 50])
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    if not options.data.is_dir():
        say("nothing to measure: MNIST is not beside the checkout (--data names its folder)")
        return 0
    torch.set_num_threads(options.threads)
    results = [
        result
        for seed in options.seeds
        for result in one_seed(seed, options.data, options.steps, options.cuts)
    ]
    say(f"{len(options.seeds)} seeds, {options.steps} steps")
    say(table(results))
    save(options.json, {"steps": options.steps, "results": [asdict(result) for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
