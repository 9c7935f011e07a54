"""What is added to the outputs of a layer, and which stored tensor a change of that goes into."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Array, Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap
from worker.engine.graph.constants import attribute, is_constant_node
from worker.engine.graph.layer import LayerUse
from worker.engine.graph.unfolded import weight_operand

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Bias:
    """A stored vector over a layer's outputs: adding `factor` · δ to it adds δ to what the layer makes, as
    far as anything behind it can tell."""

    value: ir.Value
    factor: Floats

    def shifted(self, network: Network, shift: Array) -> Array:
        """The stored tensor after such a change of every output, in its own shape and type."""
        stored = network.read(self.value)
        change = (self.factor * np.asarray(shift, np.float64).reshape(-1)).reshape(stored.shape)
        moved = stored.astype(np.float64) + change
        return np.where(change == 0, stored, moved.astype(stored.dtype))


def added_inside(network: Network, use: LayerUse) -> Floats | str:
    """What the operator itself adds to its outputs (zeros where nothing), or why that is not known."""
    count = int(np.prod(use.view.seen_shape()[:2]))
    value = use.node.inputs[2] if len(use.node.inputs) > 2 else None
    if value is None:
        return np.zeros(count)
    factor = _inside_factor(use.node)
    if not _is_stored(value):
        return "what it adds is computed"
    stored = network.read(value).astype(np.float64)
    if stored.size not in (1, count):
        return "what it adds is no vector over its outputs"
    return np.broadcast_to(stored.reshape(-1), (count,)) * factor


def find_bias(network: Network, graph: Graph, use: LayerUse) -> Bias | None:
    """Where a shift of the layer's outputs can go without a new tensor: its own bias, a bias added right
    behind it, or the shift of the batch norm right behind it. None where there is no such place."""
    count = int(np.prod(use.view.seen_shape()[:2]))
    own = use.node.inputs[2] if len(use.node.inputs) > 2 else None
    if own is not None:
        factor = _inside_factor(use.node)
        fits = _is_free(network, own, count) and factor != 0
        return Bias(own, np.full(count, 1.0 / factor)) if fits else None
    made = use.node.outputs[0]
    readers = made.uses()
    if len(readers) != 1 or made.is_graph_output():
        return None
    reader = next(iter(readers)).node
    if reader.op_type == "Add":
        return _added_behind(network, use, reader, count)
    if reader.op_type == "BatchNormalization" and _channels_on_axis_1(graph, use):
        return _norm_behind(network, reader, count)
    return None


def _added_behind(network: Network, use: LayerUse, node: ir.Node, count: int) -> Bias | None:
    value = next((item for item in node.inputs if item is not use.node.outputs[0]), None)
    if value is None or not _is_free(network, value, count):
        return None
    shape = network.read(value).shape
    axis = _channel_axis(use)
    if count > 1 and (len(shape) < -axis or shape[axis] != count):
        return None
    return Bias(value, np.ones(count))


def _norm_behind(network: Network, node: ir.Node, count: int) -> Bias | None:
    scale, shift, _, variance = node.inputs[1:5]
    if (
        shift is None
        or not _is_free(network, shift, count)
        or not (_is_stored(scale) and _is_stored(variance))
    ):
        return None
    if scale is None or variance is None:
        return None
    root = np.sqrt(network.read(variance).astype(np.float64) + attribute(node, "epsilon", 1e-5))
    return Bias(shift, network.read(scale).astype(np.float64) / root)


def _inside_factor(node: ir.Node) -> float:
    return float(attribute(node, "beta", 1.0)) if node.op_type == "Gemm" else 1.0


def _channel_axis(use: LayerUse) -> int:
    """The axis of the outputs that the channels lie on, from the end."""
    if use.node.op_type in ("Conv", "ConvTranspose"):
        return 2 - len(use.view.seen_shape())
    return -2 if weight_operand(use) == 0 else -1


def _channels_on_axis_1(graph: Graph, use: LayerUse) -> bool:
    channels = graph.maps.get(use.node.outputs[0])
    return isinstance(channels, ChannelMap) and channels.axes == (1,)


def _is_stored(value: ir.Value | None) -> bool:
    if value is None:
        return False
    node = value.producer()
    return value.is_initializer() or (node is not None and is_constant_node(node))


def _is_free(network: Network, value: ir.Value, count: int) -> bool:
    """True for a stored floating vector of so many elements that nothing else reads."""
    if not _is_stored(value) or not network.writable(value) or value.is_graph_output():
        return False
    stored = network.read(value)
    single = len(value.uses()) == 1 and sum(size != 1 for size in stored.shape) <= 1
    return single and stored.size == count and stored.dtype in (np.float32, np.float64)
