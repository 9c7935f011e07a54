"""Inspecting, scoring by lookahead, masking and writing a ResNet-50 against loading and saving it with onnx.

Each round runs every contender once, in turn, in one process; the first round does not count. Medians are
shown. Verification, which runs the model, is no part of it.
"""

import gc
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from api_schemas.recipe import RecipeRequest, resolve
from benchmarks.mask_speed import timed
from benchmarks.output import markdown, parser, save, say
from tests.zoo import export
from worker.engine import formats
from worker.engine.apply.mask import Mask
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.formats.base import LoadOptions
from worker.engine.planning import analyse, goal_of, resolve_parts, select
from worker.engine.report.inspection import inspection_of

#: The engine may take so many times as long as loading and saving.
BAR = 3.0


def loaded_and_saved(path: Path, folder: Path) -> None:
    """What any tool that edits the file must do."""
    onnx.save(onnx.load(path), folder / "copy.onnx")


def engine(path: Path, folder: Path, sparsity: float, threads: int) -> Callable[[], None]:
    """Load, inspect, score, mask, save."""
    request = RecipeRequest.model_validate({"preset": "lookahead", "target": {"sparsity": sparsity}})
    recipe = resolve(request, catalogue().preset_axes())
    parts = resolve_parts(recipe)
    goal = goal_of(parts, recipe)

    def run() -> None:
        context = Context(folder, threads=threads)
        network = formats.load(path, LoadOptions(scratch=folder))
        graph = analyse(network, {}, recipe, context)
        inspection_of(network, graph)
        plan = select(parts, network, graph, goal, context)
        Mask().apply(plan, graph, network, folder)
        network.save(folder / "pruned.onnx")

    return run


def main() -> int:
    """Time both and hold them to the bar."""
    arguments = parser(__doc__)
    arguments.add_argument("--sparsity", type=float, default=0.8)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    path = export("resnet50", reduced=False)
    with tempfile.TemporaryDirectory() as name:
        run = engine(path, Path(name), options.sparsity, options.threads)
        contenders = {
            "onnx: load, save": lambda: loaded_and_saved(path, Path(name)),
            "engine: load, inspect, lookahead, mask, save": run,
        }
        gc.freeze()  # as the worker's child does, or collections go through torch again and again
        seconds = timed(contenders, options.rounds)
    unit, own = seconds.values()
    say(f"ResNet-50, {path.stat().st_size / 1e6:.0f} MB, {options.threads} threads, {options.rounds} rounds")
    rows = [(label, f"{value * 1e3:,.0f}", f"{value / unit:.2f}") for label, value in seconds.items()]
    say(markdown(("", "ms", "times onnx"), rows))
    say(f"bar: {BAR:g} times; {'held' if own <= BAR * unit else 'missed'}")
    save(options.json, {"seconds": seconds, "ratio": own / unit, "bar": BAR, "threads": options.threads})
    return 0 if own <= BAR * unit else 1


if __name__ == "__main__":
    sys.exit(main())
