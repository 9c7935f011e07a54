"""Scores of criteria that look at data, in the layout of the tests' weights: (out, in, *taps)."""

from pathlib import Path
from typing import Any

import numpy as np

from api_schemas.recipe import PartSpec
from tests.engine.chains import Chain
from worker.engine import formats, registry
from worker.engine.context import Context
from worker.engine.criteria.base import Criterion, Subject
from worker.engine.data import load_dataset
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.build import build

Array = np.ndarray[Any, np.dtype[Any]]


def scores(
    chain: Chain, scratch: Path, criterion: dict[str, Any], x: Array, targets: Array | None = None
) -> tuple[list[Array], list[str]]:
    """Scores of every layer of a chain, and what was said."""
    rows = scratch / "rows.npz"
    arrays: dict[str, Any] = {"x": x} if targets is None else {"x": x, "targets": targets}
    np.savez(rows, **arrays)
    network = formats.load(chain.path, LoadOptions(scratch=scratch))
    graph, context = build(network), Context(scratch)
    part = registry.resolve(Criterion, PartSpec.model_validate(criterion))
    subject = Subject(network, graph, graph.layers, 0, load_dataset(rows, network.inputs), context)
    scorer = part.scorer(subject)
    found = [scorer.score(graph.layer(name)) for name in chain.names]
    return [item.reshape(-1, *item.shape[2:]) for item in found], context.warnings
