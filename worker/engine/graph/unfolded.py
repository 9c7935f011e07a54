"""Layer uses as matrix products of what flows through the network (see `learning.unfolding`)."""

import onnx_ir as ir

from worker.engine.formats.base import Network
from worker.engine.graph.constants import REARRANGING
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.learning.unfolding import Unfolding, unfolding


def unfolded(network: Network, use: LayerUse) -> Unfolding | str:
    """How the operator reads its data and what it makes of it; or why that is not known."""
    if use.node.graph is not network.structure.graph:
        return "it stands inside the body of an If, Loop or Scan"
    if use.view.quantization is not None and use.node.op_type not in ("Conv", "Gemm", "MatMul"):
        return "its data are integers"
    position = weight_operand(use)
    if position is None:
        return "the operand that holds the weight is not found"
    return unfolding(use.node, position, use.view.seen_shape())


def all_unfolded(network: Network, layer: Layer) -> list[Unfolding] | str:
    """The unfoldings of every use of a layer, or why there are none."""
    found = [unfolded(network, use) for use in layer.uses]
    reasons = [item for item in found if isinstance(item, str)]
    return reasons[0] if reasons else [item for item in found if isinstance(item, Unfolding)]


def weight_operand(use: LayerUse) -> int | None:
    """Which input of the node leads to the stored weight."""
    for position, value in enumerate(use.node.inputs[:2]):
        if _leads_to(value, use.view.value):
            return position
    return None


def _leads_to(value: ir.Value | None, stored: ir.Value) -> bool:
    while value is not None and value is not stored:
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in REARRANGING else None
    return value is stored
