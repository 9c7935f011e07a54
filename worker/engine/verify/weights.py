"""The promise of a mask, checked on the saved file: kept means bit-identical, pruned means zero."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from api_schemas.report import CheckResult
from worker.engine.types import Array, Mask

_NAMED = 3


@final
@dataclass(frozen=True)
class LayerWeights:
    """A layer's weights as uploaded and as read back from the saved file, and what was to be kept.

    All three have one shape, in one layout.
    """

    name: str
    before: Array
    after: Array
    keep: Mask


@final
@dataclass(frozen=True)
class Recount:
    """What a layer's weights say for themselves."""

    name: str
    zeros_before: int
    zeros_after: int
    kept: int
    changed: int
    left: int
    same_type: bool

    @property
    def holds(self) -> bool:
        """True when every kept weight is bit-identical and every pruned one is zero."""
        return self.same_type and self.changed == 0 and self.left == 0


def count_zeros(weights: Array) -> int:
    """Number of weights that are zero of either sign. NaN is no zero."""
    return int(np.count_nonzero(weights == 0))


def recount(layer: LayerWeights) -> Recount:
    """Count zeros, kept weights that changed in any bit, and pruned weights that are not zero.

    Raises `ValueError` when the mask has another shape than the uploaded weights.
    """
    if layer.keep.shape != layer.before.shape:
        raise ValueError(f"the mask of {layer.name!r} has shape {layer.keep.shape}, not {layer.before.shape}")
    same_type = (layer.before.shape, layer.before.dtype) == (layer.after.shape, layer.after.dtype)
    kept = int(np.count_nonzero(layer.keep))
    return Recount(
        name=layer.name,
        zeros_before=count_zeros(layer.before),
        zeros_after=count_zeros(layer.after),
        kept=kept,
        changed=_changed(layer) if same_type else kept,
        left=int(np.count_nonzero(~(layer.after[~layer.keep] == 0))) if same_type else layer.keep.size - kept,
        same_type=same_type,
    )


def _changed(layer: LayerWeights) -> int:
    """Kept weights with any bit changed; values will not do, as −0 equals 0 and NaN nothing."""
    before = _bits(layer.before[layer.keep])
    after = _bits(layer.after[layer.keep])
    return int(np.count_nonzero((before != after).any(axis=1)))


def _bits(weights: Array) -> Array:
    """The bytes of each weight as a row."""
    return np.ascontiguousarray(weights).view(np.uint8).reshape(weights.size, weights.dtype.itemsize)


def weight_checks(recounts: Iterable[Recount]) -> list[CheckResult]:
    """The two promises of a mask over all layers, with the layers that break them named."""
    counted = tuple(recounts)
    changed = [item.name for item in counted if item.changed or not item.same_type]
    kept = sum(item.kept for item in counted)
    return [
        _result("kept weights", changed, f"{kept:,} weights in {len(counted)} layers are bit-identical"),
        pruned_check(counted),
    ]


def pruned_check(recounts: Iterable[Recount]) -> CheckResult:
    """Every pruned weight is zero in a tensor of the same shape and type."""
    counted = tuple(recounts)
    left = [item.name for item in counted if item.left or not item.same_type]
    zeros = sum(item.zeros_after for item in counted)
    return _result("pruned weights", left, f"all are zero; {zeros:,} zeros recounted in the saved file")


def _result(name: str, broken: list[str], good: str) -> CheckResult:
    if not broken:
        return CheckResult(name=name, passed=True, detail=good)
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    named = ", ".join(layer[:80] for layer in broken[:_NAMED])
    return CheckResult(name=name, passed=False, detail=f"broken in {named}{more}")
