"""Weights of layers as numbers: dequantised where stored as integers, in the operator's layout."""

import numpy as np
import onnx_ir as ir

from worker.engine.errors import InvalidModelError
from worker.engine.formats.base import Array, Network
from worker.engine.graph.layer import Layer
from worker.engine.graph.views import WeightView

_NARROW = 4


def read(network: Network, view: WeightView) -> Array:
    """float32 or float64 values of a weight, in layout (groups, outputs, inputs, *taps)."""
    stored = network.read(view.value)
    if view.quantization is not None:
        offset = stored.astype(np.float64) - view.quantization.zero_point.astype(np.float64)
        return view.forward(offset * view.quantization.scale.astype(np.float64))
    wide = stored if stored.dtype.itemsize >= _NARROW else stored.astype(np.float32)
    return view.forward(wide)


def read_finite(network: Network, layer: Layer) -> Array:
    """The same; a NaN or an infinity among the weights is an error, for no score could rank it."""
    values = read(network, layer.view)
    if not np.isfinite(values.sum()) and not np.isfinite(values).all():
        raise InvalidModelError(f"layer {layer.name!r} holds weights that are NaN or infinite")
    return values


def zeroed(network: Network, view: WeightView, keep: Array) -> Array:
    """The stored tensor with everything outside `keep` (operator's layout) at zero; the rest bit for bit."""
    return masked_values(view, network.read(view.value), keep)


def masked_values(view: WeightView, stored: Array, keep: Array) -> Array:
    """The same, of the stored tensor's values."""
    kept = view.back(keep)
    zero = np.zeros((), stored.dtype) if view.quantization is None else view.quantization.zero_point
    return np.where(kept, stored, zero).astype(stored.dtype, copy=False)


def count_zeros(network: Network, view: WeightView) -> int:
    """How many stored weights stand for zero."""
    stored = network.read(view.value)
    if view.quantization is None:
        return int(stored.size - np.count_nonzero(stored))
    return int(np.count_nonzero(stored == view.quantization.zero_point))


def stored_dtype(value: ir.Value) -> ir.DataType | None:
    """Type of the stored tensor, of an initializer or of a Constant's output."""
    node = value.producer()
    if value.const_value is None and node is not None and "value" in node.attributes:
        return node.attributes["value"].as_tensor().dtype
    return value.dtype if value.const_value is None else value.const_value.dtype
