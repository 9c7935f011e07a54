"""Test error on MNIST of published methods at every level and of recipes of ours, by the product's jobs.

The LAP protocol: the perceptron is trained, pruned at the cumulative ratio of an iteration of the step ratios
.5 .5 .5 .5 .25, and retrained with Adam at 1.2e-3, batches of 60, masks held. Pruning and retraining are one
job; a thousand training images say which network of a job is kept, the test images are seen by this program
alone. Reads ../shared/data/mnist.
"""

import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import torch

from benchmarks import jobs, mnist
from benchmarks.mnist import Net
from benchmarks.output import markdown, note, parser, save, say, spread

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
_STEP_RATIOS: Final = (0.5, 0.5, 0.5, 0.5, 0.25)
_VALIDATION_ROWS: Final = 1000
_PLAIN: Final = {"warm_up": 0.0, "weight_decay": 0.0, "clip": None, "patience": None}
_TRAINING: Final = {"optimiser": "adam", "learning_rate": 1.2e-3, "rate": "constant", **_PLAIN}

#: Criterion and, where it is not the default, schedule; `rounds` share the steps of retraining among them.
Method = Mapping[str, Any]
PUBLISHED: Final[Mapping[str, Method]] = {
    "magnitude": {"criterion": {"name": "magnitude"}},
    "lookahead": {"criterion": {"name": "lookahead"}},
    "lookahead forward": {"criterion": {"name": "lookahead", "order": "forward"}},
    "lookahead backward": {"criterion": {"name": "lookahead", "order": "backward"}},
    "LAP-act": {"criterion": {"name": "lookahead_act"}},
    "OBD": {"criterion": {"name": "obd"}},
    "OBD + lookahead": {"criterion": {"name": "lookahead_obd"}},
}
OURS: Final[Mapping[str, Method]] = {
    "lookahead, 50 cuts": {"criterion": {"name": "lookahead"}, "schedule": {"name": "rescored", "steps": 50}},
    "lookahead, 8 rounds": {
        "criterion": {"name": "lookahead"},
        "schedule": {"name": "iterative", "rounds": 8},
    },
    "lookahead, 8 rounds of 8 cuts": {
        "criterion": {"name": "lookahead"},
        "schedule": {"name": "iterative", "rounds": 8, "cuts": 8},
    },
}
METHODS: Final = {**PUBLISHED, **OURS}


@final
@dataclass(frozen=True)
class Protocol:
    """What is run for each seed."""

    data: Path
    steps: int
    iterations: tuple[int, ...]
    methods: tuple[str, ...]


@final
@dataclass(frozen=True)
class Result:
    """One network: how much of it was left and its error on the test images; `dense` is iteration 0."""

    seed: int
    method: str
    iteration: int
    percent_left: float
    test_error: float


def recipe(method: Method, iteration: int, steps: int, seed: int) -> dict[str, Any]:
    """The cumulative ratio of an iteration layer by layer, and retraining of so many steps in all."""
    layers = {f"fc{i}": {"sparsity": 1 - (1 - ratio) ** iteration} for i, ratio in enumerate(_STEP_RATIOS)}
    rounds = method.get("schedule", {}).get("rounds", 1)
    training = {"name": "fine_tune", "steps": steps // rounds, "batch": 60, **_TRAINING}
    return {
        **method,
        "allocation": {"name": "given"},
        "layers": layers,
        "recovery": training,
        "seed": seed,
    }


def one_seed(seed: int, protocol: Protocol) -> list[Result]:
    """Train, then one job for each iteration and method."""
    torch.set_num_threads(1)
    images, test = mnist.read(protocol.data, "train"), mnist.read(protocol.data, "t10k")
    dense = mnist.train(mnist.fresh(seed), None, images, protocol.steps, seed)
    results = [Result(seed, "dense", 0, 100.0, mnist.error_percent(dense, test))]
    with tempfile.TemporaryDirectory(prefix="mnist-methods-") as name:
        folder = Path(name)
        model = mnist.write_onnx(dense, folder / "mlp.onnx")
        data = jobs.write_data(folder / "train.npz", images.x, images.y, _VALIDATION_ROWS)
        for iteration, method in itertools.product(protocol.iterations, protocol.methods):
            asked = recipe(METHODS[method], iteration, protocol.steps, seed)
            net = _after(model, data, asked, folder)
            results.append(Result(seed, method, iteration, _left(net), mnist.error_percent(net, test)))
            note(str(results[-1]))
    return results


def _after(model: Path, data: Path, asked: Mapping[str, Any], folder: Path) -> Net:
    path = folder / "pruned.onnx"
    path.write_bytes(jobs.run(model, asked, data).model)
    return mnist.read_onnx(path)


def _left(net: Net) -> float:
    return 100 * sum(int((w != 0).sum()) for w in net.weights) / sum(w.size for w in net.weights)


def table(results: Sequence[Result], methods: Sequence[str]) -> str:
    """Test error in percent: mean and standard deviation over the seeds, a row for each method."""
    levels = sorted({(r.iteration, round(r.percent_left, 2)) for r in results if r.iteration})
    shown = [
        next(left for it, left in levels if it == iteration) for iteration in sorted({it for it, _ in levels})
    ]
    rows = [
        (
            name,
            *(
                spread([r.test_error for r in results if (r.method, r.iteration) == (name, it)])
                for it in sorted({it for it, _ in levels})
            ),
        )
        for name in methods
    ]
    return markdown(("method", *(f"{left:.2f} % left" for left in shown)), rows)


def main() -> int:
    """Run the protocol for every seed and show the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--data", type=Path, default=_DATA)
    arguments.add_argument("--steps", type=int, default=4000, help="of training, and again of retraining")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--iterations", type=int, nargs="+", default=[4, 5, 6, 7, 8, 9, 10])
    arguments.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    arguments.add_argument("--processes", type=int, default=2)
    options = arguments.parse_args()
    if not options.data.is_dir():
        say("nothing to measure: MNIST is not beside the checkout (--data names its folder)")
        return 0
    begun = time.monotonic()
    protocol = Protocol(options.data, options.steps, tuple(options.iterations), tuple(options.methods))
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        running = [pool.submit(one_seed, seed, protocol) for seed in options.seeds]
        results = [result for done in as_completed(running) for result in done.result()]
    results.sort(key=lambda result: (result.iteration, result.method, result.seed))
    dense = [result.test_error for result in results if result.method == "dense"]
    spent = time.monotonic() - begun
    say(f"{len(options.seeds)} seeds, {options.steps} steps (the paper: 50,000), {spent:.0f} s")
    say(f"dense: {spread(dense)} % test error")
    say(table(results, options.methods))
    save(options.json, {"steps": options.steps, "results": [asdict(result) for result in results]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
