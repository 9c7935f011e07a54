"""What the saved file must be, checked on the file as it was read back, against the upload."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from api_schemas.models import ModelFormat
from api_schemas.report import CheckResult
from worker.engine.formats.base import Array, Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import build, constants_in
from worker.engine.graph.layer import Layer
from worker.engine.graph.views import WeightView
from worker.engine.graph.weights import stored_dtype
from worker.engine.types import Plan
from worker.engine.verify.structure import check_smaller, check_structure
from worker.engine.verify.weights import LayerWeights, Recount, pruned_check, recount, weight_checks

#: By the number of a stored tensor: (axis, order) one after another, index i taking what order[i] was.
Orders = Mapping[int, Sequence[tuple[int, Array]]]
_BY_VALUE = ("kept weights", "other tensors")


@dataclass(frozen=True)
class Promise:
    """What was decided, on the network that was analysed; `shrinks` says that the file got smaller, `healed`
    that weights were changed after the cut, `orders` that channels changed places before it."""

    network: Network
    graph: Graph
    plan: Plan
    shrinks: bool = False
    healed: bool = False
    orders: Orders = field(default_factory=dict)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that were planned."""
        return self.graph.layers


def check_promises(promise: Promise, before: Network, after: Network) -> list[CheckResult]:
    """Structure, kept and pruned weights, everything else, and the counts that were asked for.

    Where channels changed places, tensors of `before` are put in the new order first.
    """
    if not promise.orders:
        return _checked(promise, before, after)
    values = list(constants_in(before.structure))
    for number, steps in promise.orders.items():
        _reorder(before, values[number], steps)
    count = len(promise.orders)
    return [
        check.model_copy(update={"detail": f"{check.detail}; {count} tensors by the new order of channels"})
        if check.name in _BY_VALUE
        else check
        for check in _checked(promise, before, after)
    ]


def _reorder(network: Network, value: ir.Value, steps: Sequence[tuple[int, Array]]) -> None:
    """Raises ValueError for what is no order of all indices."""
    stored = network.read(value)
    for axis, order in steps:
        if not np.array_equal(np.sort(order), np.arange(stored.shape[axis])):
            raise ValueError(f"no order of axis {axis} of {value.name!r}")
        stored = np.take(stored, order, axis=axis)
    network.write(value, np.ascontiguousarray(stored))


def _checked(promise: Promise, before: Network, after: Network) -> list[CheckResult]:
    if promise.shrinks:
        return [*_interface(before, after, check_smaller), _smaller(promise, after)]
    counted = [(recount(w), _expected_zeros(w)) for w in _layer_weights(promise, before, after)]
    if promise.healed:
        return [
            *_interface(before, after, check_structure),
            pruned_check([found for found, _ in counted]),
            _untouched(promise, before, after),
            _at_least(counted),
        ]
    return [
        *_interface(before, after, check_structure),
        *weight_checks([found for found, _ in counted]),
        _untouched(promise, before, after),
        _counts(counted),
    ]


def _smaller(promise: Promise, after: Network) -> CheckResult:
    """Every layer has as many weights left as its plan keeps."""
    left: dict[str, int] = {}
    for layer in (found := build(after)).layers + found.refused:
        left[layer.name] = layer.size
    wrong = [
        plan.layer
        for plan in promise.plan.layers
        if left.get(plan.layer, plan.keep.size - plan.pruned) != plan.keep.size - plan.pruned
    ]
    total = sum(plan.pruned for plan in promise.plan.layers)
    detail = (
        f"{total:,} weights are gone, as planned" if not wrong else f"wrong in {', '.join(wrong[:3])[:200]}"
    )
    return CheckResult(name="widths", passed=not wrong, detail=detail)


def _interface(
    before: Network, after: Network, files: Callable[[Path, Path], list[CheckResult]]
) -> list[CheckResult]:
    """What a user sees of both; of ONNX files, which say more of themselves, what `files` compares."""
    if before.format is ModelFormat.ONNX:
        return files(before.file, after.file)
    same = (before.inputs, before.outputs) == (after.inputs, after.outputs)
    detail = f"{len(before.inputs)} inputs and {len(before.outputs)} outputs, the same"
    return [CheckResult(name="inputs and outputs", passed=same, detail=detail if same else "they differ")]


def _layer_weights(promise: Promise, before: Network, after: Network) -> Iterator[LayerWeights]:
    """Stored weights of every planned layer, quantised ones less their zero point."""
    number = {value: place for place, value in enumerate(constants_in(promise.network.structure))}
    old, new = list(constants_in(before.structure)), list(constants_in(after.structure))
    for layer in promise.layers:
        place = number[layer.view.value]
        keep = layer.view.back(promise.plan.of(layer.name).keep)
        yield LayerWeights(
            layer.name,
            _centred(before.read(old[place]), layer.view),
            _centred(after.read(new[place]), layer.view),
            keep,
        )


def _centred(stored: Array, view: WeightView) -> Array:
    if view.quantization is None:
        return stored
    centred: Array = stored.astype(np.int32) - view.quantization.zero_point.astype(np.int32)
    return centred


def _untouched(promise: Promise, before: Network, after: Network) -> CheckResult:
    """Every other stored tensor must be bit for bit the same; after healing every one that is no floating
    number."""
    planned = {layer.view.value for layer in promise.layers}
    pairs = zip(
        constants_in(promise.network.structure),
        constants_in(before.structure),
        constants_in(after.structure),
        strict=True,
    )
    others = [(old, new) for own, old, new in pairs if own not in planned]
    if promise.healed:
        others = [(old, new) for old, new in others if not _floating(old)]
    changed = [old.name or "" for old, new in others if not _same_bits(before.read(old), after.read(new))]
    detail = f"{len(others)} are bit-identical" if not changed else f"changed: {', '.join(changed[:3])[:200]}"
    return CheckResult(name="other tensors", passed=not changed, detail=detail)


def _floating(value: ir.Value) -> bool:
    dtype = stored_dtype(value)
    return dtype is not None and dtype.is_floating_point()


def _same_bits(first: Array, second: Array) -> bool:
    return first.dtype == second.dtype and first.shape == second.shape and first.tobytes() == second.tobytes()


def _expected_zeros(weights: LayerWeights) -> int:
    """Weights that were pruned, and those that were zero before."""
    return int(np.count_nonzero(~weights.keep | (weights.before == 0)))


def _counts(counted: Sequence[tuple[Recount, int]]) -> CheckResult:
    """The recounted zeros are the planned ones and those that were zero before; none more, none less."""
    wrong = [found.name for found, expected in counted if found.zeros_after != expected]
    total = sum(found.zeros_after for found, _ in counted)
    detail = f"{total:,} zeros, as many as planned" if not wrong else f"wrong in {', '.join(wrong[:3])[:200]}"
    return CheckResult(name="sparsity", passed=not wrong, detail=detail)


def _at_least(counted: Sequence[tuple[Recount, int]]) -> CheckResult:
    """After healing: the planned zeros and those that were zero before are there; healing may add to them."""
    wrong = [found.name for found, expected in counted if found.zeros_after < expected]
    total = sum(found.zeros_after for found, _ in counted)
    detail = (
        f"{total:,} zeros, at least those planned"
        if not wrong
        else f"missing in {', '.join(wrong[:3])[:200]}"
    )
    return CheckResult(name="sparsity", passed=not wrong, detail=detail)
