"""Masks that the engine finds for a file, in the layout of the tests' weights: (out, in, *taps)."""

from pathlib import Path
from typing import Any

import numpy as np

from api_schemas.recipe import Recipe, RecipeRequest, resolve
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import Dataset, load_dataset
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.planning import analyse, goal_of, resolve_parts, select

Array = np.ndarray[Any, np.dtype[Any]]


def recipe(**request: Any) -> Recipe:
    """A recipe from its short form; parts by bare name are fine. Nothing heals unless asked to."""
    request.setdefault("recovery", "none")
    axes = ("criterion", "granularity", "allocation", "schedule", "apply", "recovery")
    spelled = {k: {"name": v} if k in axes and isinstance(v, str) else v for k, v in request.items()}
    return resolve(RecipeRequest.model_validate(spelled), {})


def masks(path: Path, scratch: Path, x: Array | None = None, **request: Any) -> dict[str, Array]:
    """What each layer keeps, by layer name; criteria may look at the rows `x`."""
    asked = recipe(**request)
    parts, context = resolve_parts(asked), Context(scratch, seed=asked.seed)
    network = formats.load(path, LoadOptions(scratch=scratch))
    graph = analyse(network, {}, asked, context)
    (goal,) = parts.schedule.steps(goal_of(parts, asked))
    plan = select(parts, network, graph, goal, context, data=_rows(network, scratch, x))
    return {item.layer: item.keep.reshape(-1, *item.keep.shape[2:]) for item in plan.layers}


def _rows(network: Network, scratch: Path, x: Array | None) -> Dataset | None:
    if x is None:
        return None
    np.savez(scratch / "rows.npz", x=x)
    return load_dataset(scratch / "rows.npz", network.inputs)
