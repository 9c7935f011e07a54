"""A shrunk model is held to the full one in which the weights of the same channels are zero."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from api_schemas.models import ModelFormat
from api_schemas.report import CheckResult
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.base import Network, Runner
from worker.engine.granularity.coupled import kept_channels
from worker.engine.graph.build import constants_in
from worker.engine.graph.kept import Kept
from worker.engine.graph.layer import Layer
from worker.engine.graph.statistics import norms_over, statistics_over
from worker.engine.types import Array, Mask
from worker.engine.verify.promises import Promise

#: Largest difference allowed, relative to the largest magnitude of the output.
TOLERANCE = 1e-4
NAME = "equals the masked model"


def write_masked(promise: Promise, network: Network, folder: Path) -> Path:
    """Write the full model with zeros where the plan removes; `network` is a fresh load of the upload.

    Statistics over channels (of a layer norm, say) are taken over those that stay, as in the smaller model.
    """
    place = {value: number for number, value in enumerate(constants_in(promise.network.structure))}
    values = list(constants_in(network.structure))
    kept = kept_channels(promise.graph, promise.plan)
    for layer in (*promise.layers, *promise.graph.refused):
        keep = _kept_weights(promise, kept, layer)
        if keep is not None:
            value = values[place[layer.view.value]]
            stored = network.read(value)
            network.write(value, np.where(layer.view.back(keep), stored, np.zeros((), stored.dtype)))
    path = folder / f"masked{network.suffix}"
    edits = statistics_over(kept, promise.network.structure, network.structure)
    if edits and network.format is ModelFormat.ONNX:
        network = network.rewritten(edits, Path(tempfile.mkdtemp(prefix="masked-", dir=folder)))
    network.save(path)
    return path


def _kept_weights(promise: Promise, kept: Kept, layer: Layer) -> Mask | None:
    """What stays of a weight, in the operator's layout. Layers that the plan leaves alone may still read
    channels that go: an output layer that is the embedding table too, say."""
    if layer.reason is None:
        return promise.plan.of(layer.name).keep
    uses = [use for use in layer.uses if not kept.inputs(use).all()]
    return kept.weights(uses[0]) if uses else None


def remark_on(promise: Promise) -> str:
    """What the full model was held to besides zeros, for the report; empty where nothing."""
    count = norms_over(kept_channels(promise.graph, promise.plan))
    return f"; there {count} norms and reductions were over the channels that stay" if count else ""


def check_equal(
    full: Runner, shrunk: Runner, feeds: Sequence[Mapping[str, Array]], remark: str = ""
) -> CheckResult:
    """Run both on the same inputs."""
    worst = 0.0
    for feed in feeds:
        expected = full.run(feed)
        try:
            found = shrunk.run(feed)
        except ModelNotRunnableError as error:
            return CheckResult(name=NAME, passed=False, detail=str(error)[:300])
        for first, second in zip(expected, found, strict=True):
            worst = max(worst, relative_difference(first, second))
    detail = f"largest relative difference {worst:.1e} over {len(feeds)} rows{remark}"
    return CheckResult(name=NAME, passed=worst <= TOLERANCE, detail=detail)


def relative_difference(first: Array, second: Array) -> float:
    """Largest difference over the largest magnitude; infinite where shapes or finiteness differ."""
    if first.shape != second.shape:
        return float("inf")
    a, b = first.astype(np.float64), second.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    largest = np.abs(a[finite]).max(initial=0.0)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / largest) if largest else 0.0
