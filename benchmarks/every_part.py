"""Every criterion and every allocation on every shared model at 80 % of single weights, and half of the
channels of every one. Nothing may crash, and nothing may come back unchanged in silence.

Criteria that need no data go with every allocation; those that look at data see a few rows of noise and
share out evenly. Single weights are masked, saved, read back and held to the promises; channels go through
the whole pipeline, which runs the file. The nine models of ONNX's own backend test come along.
"""

import itertools
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import onnx
from pydantic import TypeAdapter

from api_schemas.jobs import InputSpecs
from api_schemas.recipe import RecipeRequest, resolve
from benchmarks import shared_models
from benchmarks.output import markdown, note, parser, save, say
from worker.engine import formats, registry
from worker.engine.apply.mask import Mask
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.data import Dataset, load_dataset
from worker.engine.data.synthetic import random_inputs
from worker.engine.errors import EngineError
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.pipeline import Source, prune
from worker.engine.planning import analyse, goal_of, resolve_parts, select
from worker.engine.verify.promises import Promise, check_promises

_LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
#: What criteria that look at data get to see.
_ROWS: Final = 8
_CHANNELS = {"preset": "lookahead_channels", "target": {"sparsity": 0.5}}


@final
@dataclass(frozen=True)
class Model:
    """A file, the shapes that it does not tell, and the code of the refusal where it is to be refused."""

    path: Path
    inputs: InputSpecs
    expected: str


def models(scratch: Path) -> Iterator[Model]:
    """The shared set, then ONNX's own."""
    known = TypeAdapter(InputSpecs)
    for case in shared_models.cases(scratch):
        yield Model(case.path, known.validate_python(dict(case.inputs)), case.expected)
    for path in sorted(_LIGHT.glob("*.onnx")):
        yield Model(path, {}, "succeeded")


def ways() -> list[tuple[str, str]]:
    """Criteria, each with the allocations that it is tried with."""
    free, looking = _named("criterion", data=False), _named("criterion", data=True)
    every = _named("allocation", data=False)
    return [*itertools.product(free, every), *((criterion, "uniform") for criterion in looking)]


def _named(axis: str, *, data: bool) -> list[str]:
    """Parts for single weights that take a target: those that look at data, or those that need none."""
    wanted = [(part.name, part.requires()) for part in registry.parts(axis)]
    return [
        name
        for name, needs in wanted
        if needs.data is data and needs.targets != [] and "element" in (needs.granularities or ["element"])
    ]


def noise(network: Network, inputs: InputSpecs, scratch: Path) -> Dataset:
    """A few rows of random numbers that fit the network."""
    free = [item for item in network.inputs if getattr(inputs.get(item.name), "value", None) is None]
    drawn = [random_inputs(network.inputs, 1, seed, inputs) for seed in range(_ROWS)]
    arrays = {item.name: np.stack([row[item.name] for row in drawn]) for item in free}
    np.savez(scratch / "noise.npz", allow_pickle=False, **arrays)
    return load_dataset(scratch / "noise.npz", network.inputs, given=inputs)


def masked(model: Model, criterion: str, allocation: str, scratch: Path) -> str:
    """`cut` where the saved file keeps every promise at 80 %, else what came instead."""
    asked = {
        "criterion": {"name": criterion},
        "allocation": {"name": allocation},
        "target": {"sparsity": 0.8},
        "recovery": {"name": "none"},
    }
    recipe = resolve(RecipeRequest.model_validate(asked), catalogue().preset_axes())
    parts, context = resolve_parts(recipe), Context(scratch)
    options = LoadOptions(model.inputs, scratch)
    network = formats.load(model.path, options)
    graph = analyse(network, model.inputs, recipe, context)
    data = noise(network, model.inputs, scratch) if parts.criterion.requires().data else None
    plan = select(parts, network, graph, goal_of(parts, recipe), context, data=data, histograms=False)
    total = sum(layer.size for layer in graph.layers)
    if abs(plan.sparsity - 0.8) * total > len(graph.layers):
        return f"failed: {plan.sparsity:.4f} instead of 0.8"
    Mask().apply(plan, graph, network, scratch)
    saved = scratch / f"pruned{network.suffix}"
    network.save(saved)
    promise = Promise(network, graph, plan)
    checks = check_promises(promise, formats.load(model.path, options), formats.load(saved, options))
    broken = [check.name for check in checks if not check.passed]
    return f"failed: {', '.join(broken)}" if broken else "cut"


def halved(model: Model, scratch: Path) -> str:
    """`cut` where half of the channels left the file and it proved itself, else what came instead."""
    recipe = resolve(RecipeRequest.model_validate(_CHANNELS), catalogue().preset_axes())
    source = Source(model.path, model.path.name, inputs=model.inputs)
    (scratch / "output").mkdir()
    prune(source, recipe, scratch / "output", Context(scratch))
    return "cut"


def outcome(model: Model, way: tuple[str, str] | None) -> str:
    """What one request came to; refusals by code and reason."""
    with tempfile.TemporaryDirectory() as name:
        try:
            return halved(model, Path(name)) if way is None else masked(model, *way, Path(name))
        except EngineError as error:
            expected = model.expected != "succeeded" or way is None
            code = error.code.value
            return f"refused ({code}): {error}" if expected and code != "internal" else f"failed: {error}"
        except Exception as error:  # what must not happen: told, not raised, so that the rest is tried
            return f"failed: {type(error).__name__}: {error}"


def main() -> int:
    """Try everything; 1 where anything failed."""
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="*", default=[], help="parts of file names")
    arguments.add_argument("--most-bytes", type=int, default=1 << 40, help="leave larger files out")
    options = arguments.parse_args()
    rows, found = [], Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        for model in models(Path(name)):
            if options.only and not any(part in model.path.name for part in options.only):
                continue
            if model.path.stat().st_size > options.most_bytes:
                continue
            ends = [outcome(model, way) for way in [*ways(), None]]
            found.update(end.partition(" ")[0].strip(":") for end in ends)
            rows.append(_row(model, ends))
            note(" | ".join(rows[-1]))
    say(markdown(("model", f"80 % of weights, {len(ways())} ways", "50 % of channels"), rows))
    say(", ".join(f"{count} {word}" for word, count in found.most_common()))
    save(options.json, {"outcomes": dict(found), "rows": rows})
    return 1 if found["failed"] else 0


def _row(model: Model, ends: list[str]) -> tuple[str, str, str]:
    counted = Counter(ends[:-1])
    ways = "; ".join(f"{count} × {end[:160]}" for end, count in counted.most_common())
    return model.path.name, ways, ends[-1][:200]


if __name__ == "__main__":
    sys.exit(main())
