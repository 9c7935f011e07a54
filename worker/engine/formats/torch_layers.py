"""The structure of a TorchScript module that cannot be exported: its layers, each for itself.

Read from the code with everything inlined: wherever an operator takes a stored tensor as its weights, there
is a layer. What lies between layers is not known here, so each reads an input of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from worker.engine.formats.torch_interpreter import walk
from worker.engine.formats.torch_names import TensorNames
from worker.engine.formats.torch_signature import to_array

_CONVOLUTIONS = {f"aten::conv{n}d" for n in (1, 2, 3)}
_TRANSPOSED = {f"aten::conv_transpose{n}d" for n in (1, 2, 3)}
#: Operators with any kind of convolution -> positions of `transposed` and `groups`.
_GENERAL = {"aten::_convolution": (6, 8), "aten::convolution": (6, 8)}
#: Products -> position of the matrix.
_PRODUCTS = {"aten::linear": 1, "aten::matmul": 1, "aten::mm": 1, "aten::addmm": 2}
#: Operators that do several products -> positions of their matrices.
_FUSED = {
    "aten::_native_multi_head_attention": (5, 7),
    "aten::_transformer_encoder_layer_fwd": (3, 5, 14, 16),
}
_RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
_SAME_TENSOR = {"aten::detach", "aten::contiguous", "aten::to", "aten::clone", "aten::alias"}
_TURNED = {"aten::t", "aten::transpose", "aten::numpy_T"}


@dataclass(frozen=True)
class Layer:
    """An operator and the stored tensors that are its weights, by canonical name."""

    operator: str
    weights: tuple[str, ...]
    turned: bool = False
    groups: int = 1


class LayerFinder:
    """Finds layers in a module's code."""

    def __init__(self, module: torch.jit.ScriptModule, names: TensorNames) -> None:
        self._graph = module.inlined_graph
        self._names = names

    def layers(self) -> tuple[Layer, ...]:
        """Layers in the order of the code, each set of weights once."""
        found = {layer.weights: layer for layer in reversed(list(self._in_block(self._graph)))}
        return tuple(reversed(found.values()))

    def computed(self) -> bool:
        """Whether a linear layer or a convolution has weights that are no stored tensor."""
        kinds = _CONVOLUTIONS | _TRANSPOSED | _GENERAL.keys() | {"aten::linear"}
        nodes = (node for node in walk(self._graph) if node.kind() in kinds)
        return any(self._stored(node.inputsAt(1))[0] is None for node in nodes)

    def _in_block(self, block: Any) -> Iterator[Layer]:
        for node in block.nodes():
            yield from self._in_node(node)
            for inner in node.blocks():
                yield from self._in_block(inner)

    def _in_node(self, node: Any) -> Iterator[Layer]:
        kind = node.kind()
        operands = list(node.inputs())
        if kind in _CONVOLUTIONS | _TRANSPOSED:
            yield from self._convolution(operands, kind in _TRANSPOSED, 6)
        elif kind in _GENERAL:
            transposed, groups = _GENERAL[kind]
            yield from self._convolution(operands, bool(operands[transposed].toIValue()), groups)
        elif kind in _PRODUCTS:
            weight, turned = self._stored(operands[_PRODUCTS[kind]])
            if weight is not None and self._rank(weight) == 2:
                yield Layer("Gemm", (weight,), turned != (kind == "aten::linear"))
        elif kind in _FUSED:
            for place in _FUSED[kind]:
                weight, turned = self._stored(operands[place])
                if weight is not None:
                    yield Layer("Gemm", (weight,), turned)
        elif kind == "aten::embedding":
            weight, _ = self._stored(operands[0])
            if weight is not None:
                yield Layer("Gather", (weight,))
        else:
            yield from self._recurrent(kind.removeprefix("aten::"), operands)

    def _convolution(self, operands: Sequence[Any], transposed: bool, groups: int) -> Iterator[Layer]:
        weight, turned = self._stored(operands[1])
        if weight is not None and not turned:
            count = operands[groups].toIValue()
            yield Layer("ConvTranspose" if transposed else "Conv", (weight,), groups=count or 1)

    def _recurrent(self, kind: str, operands: Sequence[Any]) -> Iterator[Layer]:
        """Whole layers take their parameters as a list, cells one by one."""
        operator = _RECURRENT.get(kind.removesuffix("_cell"))
        if operator is None:
            return
        if kind.endswith("_cell"):
            lists = [[self._stored(operand)[0] for operand in operands[2:4]]]
        else:
            lists = [self._listed(operand) for operand in operands[2:4]]
        for names in lists:
            matrices = [name for name in names if name is not None and self._rank(name) == 2]
            for pair in zip(matrices[::2], matrices[1::2], strict=False):
                yield Layer(operator, pair)

    def _listed(self, value: Any) -> list[str | None]:
        """Names of the tensors in a list that is put together in the code or is an attribute."""
        node = value.node()
        if node.kind() == "prim::ListConstruct":
            return [self._stored(element)[0] for element in node.inputs()]
        return [*self._names.below(_path(node))] if node.kind() == "prim::GetAttr" else []

    def _rank(self, name: str) -> int:
        return len(self._names.place(name).shape)

    def _stored(self, value: Any) -> tuple[str | None, bool]:
        """Canonical name of the stored tensor behind a value, and whether it is seen turned."""
        node, turned = value.node(), False
        while node.kind() in _SAME_TENSOR | _TURNED:
            turned ^= node.kind() in _TURNED
            node = node.inputsAt(0).node()
        if node.kind() == "prim::GetAttr":
            return self._names.canonical(_path(node)), turned
        constant = node.output().toIValue() if node.kind() == "prim::Constant" else None
        if isinstance(constant, torch.Tensor) and not constant.is_quantized:
            return self._names.find(to_array(constant)), turned
        return None, turned


def _path(node: Any) -> str:
    """Attribute path from the module down to what a GetAttr gets; no such path where it starts elsewhere."""
    parts: list[str] = []
    while node.kind() == "prim::GetAttr":
        parts.append(node.s("name"))
        node = node.inputsAt(0).node()
    return ".".join(reversed(parts)) if node.kind() == "prim::Param" else ""


def structure_of(layers: Sequence[Layer], names: TensorNames) -> ir.Model:
    """One node for each layer, with nothing between them."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 17}, name="layers")
    add_layers(graph, layers, names)
    return ir.Model(graph, ir_version=8)


def add_layers(graph: ir.Graph, layers: Sequence[Layer], names: TensorNames) -> list[ir.Value]:
    """Add a node for each layer, reading an input of its own; returns the new initializers."""
    stored: dict[str, ir.Value] = {}
    for layer in layers:
        for name in layer.weights:
            if name not in stored:
                stored[name] = initializer(name, names)
                graph.register_initializer(stored[name])
        data = _data(layer, stored[layer.weights[0]])
        graph.inputs.append(data)
        nodes = _nodes(layer, data, [stored[name] for name in layer.weights])
        graph.extend(nodes)
        graph.outputs.append(nodes[-1].outputs[0])
    return list(stored.values())


def initializer(name: str, names: TensorNames) -> ir.Value:
    """A graph value for a stored tensor."""
    tensor = ir.Tensor(names.array(name), name=name)
    return ir.Value(
        name=name, shape=ir.Shape(tensor.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )


def _data(layer: Layer, weight: ir.Value) -> ir.Value:
    """The input that only this layer reads."""
    shape = _sizes(weight)
    dtype = weight.dtype or ir.DataType.FLOAT
    if layer.operator == "Gather":
        dims: list[int | None] = [None]
        dtype = ir.DataType.INT64
    elif layer.operator == "Conv":
        dims = [1, shape[1] * layer.groups, *[None] * (len(shape) - 2)]
    elif layer.operator == "ConvTranspose":
        dims = [1, shape[0], *[None] * (len(shape) - 2)]
    elif layer.operator == "Gemm":
        dims = [1, shape[0 if layer.turned else 1]]
    else:
        dims = [None, 1, shape[1]]
    return ir.Value(name=f"into {layer.weights[0]}", shape=ir.Shape(dims), type=ir.TensorType(dtype))


def _sizes(weight: ir.Value) -> tuple[int, ...]:
    return () if weight.shape is None else tuple(weight.shape.numpy())


def _nodes(layer: Layer, data: ir.Value, weights: Sequence[ir.Value]) -> list[ir.Node]:
    name = layer.weights[0].removesuffix(".weight")
    if layer.operator in ("Conv", "ConvTranspose"):
        made = [ir.node(layer.operator, [data, *weights], {"group": layer.groups}, name=name)]
    elif layer.operator == "Gemm":
        made = [ir.node("Gemm", [data, *weights], {"transB": int(not layer.turned)}, name=name)]
    elif layer.operator == "Gather":
        made = [ir.node("Gather", [weights[0], data], name=name)]
    else:
        axes = ir.node("Constant", [], {"value": ir.AttrTensor("value", ir.tensor(np.array([0], np.int64)))})
        lifted = [ir.node("Unsqueeze", [weight, axes.outputs[0]]) for weight in weights]
        hidden = _sizes(weights[1])[1]
        operands = [data, *(node.outputs[0] for node in lifted)]
        operator = ir.node(layer.operator, operands, {"hidden_size": hidden}, num_outputs=2, name=name)
        made = [axes, *lifted, operator]
    for index, output in enumerate(made[-1].outputs):
        output.name = f"out of {name} {index}" if index else f"out of {name}"
    return made
