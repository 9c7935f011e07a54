"""Which stored tensors of a graph are weights to train, which are batch norm's statistics, which stay."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import ml_dtypes
import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Array, Network
from worker.engine.formats.filled import filled

_FLOATS = frozenset(map(np.dtype, (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)))
#: Operators that hand a stored tensor on as it is, from their first operand.
_CARRIERS = frozenset(
    "Transpose Reshape Unsqueeze Squeeze Cast CastLike Identity Flatten Expand Slice Split Tile Pad".split()
)
#: Where an operator takes weights; every place for an empty set.
_PLACES: dict[str, frozenset[int]] = {
    "Conv": frozenset({1, 2}),
    "FusedConv": frozenset({1, 2}),
    "ConvTranspose": frozenset({1, 2}),
    "DeformConv": frozenset({1, 3}),
    "Gemm": frozenset(),
    "FusedGemm": frozenset(),
    "MatMul": frozenset(),
    "FusedMatMul": frozenset(),
    "Einsum": frozenset(),
    "BatchNormalization": frozenset({1, 2}),
    "InstanceNormalization": frozenset({1, 2}),
    "LayerNormalization": frozenset({1, 2}),
    "SimplifiedLayerNormalization": frozenset({1}),
    "SkipLayerNormalization": frozenset({2, 3, 4}),
    "SkipSimplifiedLayerNormalization": frozenset({2, 3}),
    "EmbedLayerNormalization": frozenset({2, 3, 4, 5, 6}),
    "Attention": frozenset({1, 2}),
    "MultiHeadAttention": frozenset({3}),
    "GroupNormalization": frozenset({1, 2}),
    "RMSNormalization": frozenset({1}),
    "PRelu": frozenset({1}),
    "BiasGelu": frozenset({1}),
    "FastGelu": frozenset({1}),
    "LSTM": frozenset({1, 2, 3, 7}),
    "GRU": frozenset({1, 2, 3}),
    "RNN": frozenset({1, 2, 3}),
    "Gather": frozenset({0}),
    "Add": frozenset(),
    "Mul": frozenset(),
    "Sum": frozenset(),
    "Concat": frozenset(),
}
_LAYERS = frozenset("MatMul Gemm Conv ConvTranspose Einsum".split())
#: Added numbers as large as this are masks (attention's "minus infinity").
_MASK = 1e4


@final
@dataclass(frozen=True)
class Use:
    """A node that reads a stored tensor, as it is or handed on, and at which operand."""

    node: ir.Node
    index: int


def is_stored(node: ir.Node) -> bool:
    """Whether the node only gives what the file stores: a Constant, a ConstantOfShape of a stored shape."""
    constant = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
    return constant or (node.op_type == "ConstantOfShape" and filled(node.outputs[0]) is not None)


def weights(network: Network) -> frozenset[ir.Value]:
    """Handles of the tensors to train."""
    structure = network.structure
    stored = {value for graph in structure.graphs() for value in graph.initializers.values()}
    for body in _bodies(structure):
        constants = (node for node in body.all_nodes() if is_stored(node))
        stored |= {node.outputs[0] for node in constants if not _refers(node)}
    floats = (value for value in stored - statistics(structure) if _is_float(value))
    return frozenset(value for value in floats if is_weight(network, value, network.read(value)))


def _bodies(structure: ir.Model) -> tuple[ir.Graph | ir.Function, ...]:
    return (structure.graph, *structure.functions.values())


def _refers(node: ir.Node) -> bool:
    return any(attribute.is_ref() for attribute in node.attributes.values())


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def is_weight(network: Network, value: ir.Value, array: Array) -> bool:
    """True for floating tensors that the file keeps and that some operator uses as weights."""
    if array.dtype not in _FLOATS or not array.ndim or not array.size or not network.writable(value):
        return False
    return any(_trains(use, array) for use in _uses(value, network.structure))


def statistics(structure: ir.Model) -> frozenset[ir.Value]:
    """Running means and variances of batch norm, stored or handed on."""
    found = set()
    for body in _bodies(structure):
        for node in body.all_nodes():
            if node.op_type == "BatchNormalization":
                found |= {value for value in node.inputs[3:5] if value is not None}
    return frozenset(found)


def _trains(use: Use, array: Array) -> bool:
    places = _PLACES.get(use.node.op_type)
    if places is None or (places and use.index not in places):
        return False
    if use.node.op_type in ("Add", "Sum"):
        return bool(np.abs(array).max() < _MASK) and (array.size > 1 or _follows_layer(use))
    if use.node.op_type == "Mul":
        return array.size > 1 and not _is_mask(array)
    if use.node.op_type in ("Concat", "Gather"):
        return array.ndim > 1 and bool((array != array.flat[0]).any())
    return True


def _follows_layer(use: Use) -> bool:
    """A single number added is a bias where it follows a layer; elsewhere it is an epsilon."""
    others = (
        value for index, value in enumerate(use.node.inputs) if index != use.index and value is not None
    )
    producers = (value.producer() for value in others)
    return any(node is not None and node.op_type in _LAYERS for node in producers)


def _is_mask(array: Array) -> bool:
    """Zeros and ones in several dimensions, both of them."""
    zeros, ones = array == 0, array == 1
    return bool(array.ndim > 1 and (zeros | ones).all() and zeros.any() and ones.any())


def _uses(value: ir.Value, structure: ir.Model) -> Iterator[Use]:
    """Readers of a value, through operators that hand it on and into functions of the file."""
    pending, seen = [value], {value}
    while pending:
        for node, index in pending.pop().uses():
            yield Use(node, index)
            for onward in _onward(node, index, structure):
                if onward not in seen:
                    seen.add(onward)
                    pending.append(onward)


def _onward(node: ir.Node, index: int, structure: ir.Model) -> list[ir.Value]:
    function = structure.functions.get(node.op_identifier())
    if function is not None:
        return list(function.inputs[index : index + 1])
    if node.op_type == "Concat" or (node.op_type in _CARRIERS and index == 0):
        return list(node.outputs)
    return []
