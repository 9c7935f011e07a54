"""Why a pruned file may run no faster, or slower, than the upload: what its plan says about kernels."""

import numpy as np

from worker.engine.types import LayerPlan
from worker.engine.verify.latency import DENSE_KERNELS
from worker.engine.verify.promises import Promise

#: Kernels for vectors work through so many channels at a time.
BLOCK = 8
OVERHEAD = (
    "Fewer channels shorten the arithmetic alone: what every operator costs by being called, and moving maps "
    "through memory, stay. Small models on one row are made of that."
)


def cause_of(promise: Promise) -> str:
    """The likely cause, in words, should the file not be faster."""
    if not promise.shrinks:
        return DENSE_KERNELS
    widths = {plan.layer: _widths(plan) for plan in promise.plan.layers}
    odd = [(name, after) for name, (before, after) in widths.items() if after % BLOCK and not before % BLOCK]
    if not odd:
        return OVERHEAD
    name, width = odd[0]
    return (
        f"{len(odd)} of {len(widths)} layers are left with widths that are no multiple of {BLOCK} "
        f"({name[:80]}: {width}), while kernels work on whole blocks of {BLOCK} or 16 channels: ask for "
        f'"round_to": {BLOCK} in the granularity. {OVERHEAD}'
    )


def _widths(plan: LayerPlan) -> tuple[int, int]:
    """Outputs of a layer before and after."""
    keep = plan.keep
    return keep.shape[0] * keep.shape[1], int(np.count_nonzero(keep.any(axis=tuple(range(2, keep.ndim)))))
