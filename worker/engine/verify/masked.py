"""A shrunk model is held to the full one in which the weights of the same channels are zero."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from api_schemas.models import ModelFormat
from api_schemas.report import CheckResult
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.base import Network, Runner
from worker.engine.formats.edits import Edit, SetOperand
from worker.engine.granularity.coupled import kept_channels
from worker.engine.graph.build import constants_in
from worker.engine.graph.constants import Constants
from worker.engine.graph.kept import Kept
from worker.engine.graph.layer import Layer
from worker.engine.graph.statistics import norms_over, statistics_over
from worker.engine.graph.surgery import as_read, operate
from worker.engine.graph.unfolded import weight_operand
from worker.engine.graph.weights import masked_values
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
    edits: list[Edit] = []
    for layer in (*promise.layers, *promise.graph.refused):
        keep = _kept_weights(promise, kept, layer)
        if keep is None:
            continue
        value = values[place[layer.view.value]]
        stored = network.read(value)
        masked = masked_values(layer.view, stored, keep)
        apart = _apart(promise, layer, masked, network)
        edits += apart
        if not apart:
            network.write(value, masked)
    path = folder / f"masked{network.suffix}"
    edits += statistics_over(kept, promise.network.structure, network.structure)
    if edits:
        cuts = [
            replace(edit, cut=replace(edit.cut, tensor=values[place[edit.cut.tensor]]))
            for edit in operate(promise.graph, promise.network, kept)
            if isinstance(edit, SetOperand) and edit.cut is not None
        ]
        network = network.narrowed(edits, cuts, Path(tempfile.mkdtemp(prefix="masked-", dir=folder)))
    network.save(path)
    return path


def _kept_weights(promise: Promise, kept: Kept, layer: Layer) -> Mask | None:
    """What stays of a weight, in the operator's layout. Layers that the plan leaves alone may still read
    channels that go: an output layer that is the embedding table too, say."""
    if layer.reason is None:
        return promise.plan.of(layer.name).keep
    uses = [use for use in layer.uses if not kept.inputs(use).all()]
    return kept.weights(uses[0]) if uses else None


def _apart(promise: Promise, layer: Layer, masked: Array, network: Network) -> list[Edit]:
    """The masked weight for a product alone, where the tensor is also looked up as a table: its columns are
    channels of two kinds, of which either may go."""
    views = Constants(promise.network, promise.graph.shapes)
    if layer.reason is None or network.format is not ModelFormat.ONNX:
        return []
    twins = dict(zip(promise.network.structure.graph, network.structure.graph, strict=True))
    found: list[Edit] = []
    for use in layer.uses:
        operand = weight_operand(use)
        view = None if operand is None else views.view(use.node.inputs[operand])
        if operand is None or view is None or use.node not in twins or view.quantization is not None:
            return []
        array = as_read(use.node.inputs[operand], view.forward(masked))
        found.append(SetOperand(twins[use.node], operand, np.ascontiguousarray(array)))
    return found


def remark_on(promise: Promise) -> str:
    """What the full model was held to besides zeros, for the report; empty where nothing."""
    count = norms_over(kept_channels(promise.graph, promise.plan))
    return f"; there {count} norms and reductions were over the channels that stay" if count else ""


def check_equal(
    full: Runner,
    shrunk: Runner,
    feeds: Sequence[Mapping[str, Array]],
    least: Sequence[float] = (),
    remark: str = "",
) -> CheckResult:
    """Run both on the same inputs. `least` is what each output's largest magnitude counts as at least."""
    worst = 0.0
    for feed in feeds:
        expected = full.run(feed)
        try:
            found = shrunk.run(feed)
        except ModelNotRunnableError as error:
            return CheckResult(name=NAME, passed=False, detail=str(error)[:300])
        scales = least if len(least) == len(expected) else [0.0] * len(expected)
        for first, second, scale in zip(expected, found, scales, strict=True):
            worst = max(worst, relative_difference(first, second, scale))
    detail = f"largest relative difference {worst:.1e} over {len(feeds)} rows{remark}"
    return CheckResult(name=NAME, passed=worst <= TOLERANCE, detail=detail)


def relative_difference(first: Array, second: Array, least: float = 0.0) -> float:
    """Largest difference over the largest magnitude, or `least` where that is more; infinite where shapes or
    finiteness differ."""
    if first.shape != second.shape:
        return float("inf")
    a, b = first.astype(np.float64), second.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    largest = max(np.abs(a[finite]).max(initial=0.0), least)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / largest) if largest else 0.0
