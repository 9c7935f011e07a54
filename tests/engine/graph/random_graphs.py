"""Random graphs of the operators that networks are made of, with valid shapes and random weights."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
_DOMAINS = (("com.microsoft", 1),)
#: None that saturates: a perturbed weight must be seen at every index that it reaches.
_ACTIVATIONS = ("LeakyRelu", "Abs", "Sin", "Softsign")


@final
@dataclass
class RandomGraph:
    """A graph under construction: `values` are the (name, shape) that may be read on."""

    random: Random
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, Array] = field(default_factory=dict)
    values: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    #: Weights of convolutions by shape, for layers that share one.
    kernels: dict[tuple[int, ...], str] = field(default_factory=dict)

    def node(self, op: str, inputs: list[str], shape: tuple[int, ...], **attributes: Any) -> str:
        """Add a node with one output that may be read on."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}{len(self.nodes)}", **attributes))
        self.values.append((name, shape))
        return name

    def constant(self, array: Array) -> str:
        """Store a tensor."""
        name = f"c{len(self.tensors)}"
        self.tensors[name] = array
        return name

    def normal(self, *shape: int) -> str:
        """Store random weights of such a size that activations neither vanish nor explode."""
        rng = np.random.default_rng(self.random.randrange(1 << 30))
        scale = 1.0 / max(1, math.prod(shape[1:])) ** 0.5
        return self.constant((rng.standard_normal(shape) * scale).astype(np.float32))

    def positive(self, size: int) -> str:
        """Store random numbers around one."""
        rng = np.random.default_rng(self.random.randrange(1 << 30))
        return self.constant(rng.uniform(0.5, 1.5, size).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        """Store integers."""
        return self.constant(np.array(numbers, np.int64))

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        """A Reshape to a shape that is stored."""
        return self.node("Reshape", [name, self.ints(*shape)], shape)

    def hidden(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node whose output is no activation: a weight on its way, a shape."""
        name = self.node(op, inputs, (), **attributes)
        self.values.pop()
        return name

    def positive_table(self, *shape: int) -> str:
        """Random numbers around one in any shape."""
        name = self.positive(int(np.prod(shape)))
        self.tensors[name] = self.tensors[name].reshape(shape)
        return name

    def split(self, name: str, shape: tuple[int, ...], axis: int, sizes: tuple[int, ...]) -> list[str]:
        """Parts of a value along an axis."""
        names = [f"v{len(self.nodes)}.{part}" for part in range(len(sizes))]
        node = helper.make_node(
            "Split", [name, self.ints(*sizes)], names, axis=axis, name=f"Split{len(self.nodes)}"
        )
        self.nodes.append(node)
        self.values += [
            (part, (*shape[:axis], size, *shape[axis + 1 :])) for part, size in zip(names, sizes, strict=True)
        ]
        return names

    def size(self, name: str, axis: int) -> str:
        """One size of a value, as exporters compute it, in a list of its own."""
        shape = self.hidden("Shape", [name])
        one = self.hidden("Gather", [shape, self.constant(np.array(axis, np.int64))], axis=0)
        return self.hidden("Unsqueeze", [one, self.ints(0)])

    def weight(self, *shape: int) -> str:
        """Random weights, sometimes behind operators that only rearrange or decode them."""
        way = self.random.choice(["", "", "", "Identity", "Cast", "Transpose", "Reshape", "DequantizeLinear"])
        name = self.normal(*shape)
        if way == "Transpose":
            order = self.random.sample(range(len(shape)), len(shape))
            self.tensors[name] = np.ascontiguousarray(self.tensors[name].transpose(np.argsort(order)))
            return self.hidden(way, [name], perm=order)
        if way == "Reshape":
            self.tensors[name] = self.tensors[name].reshape(-1)
            return self.hidden(way, [name, self.ints(*shape)])
        if way == "Cast":
            self.tensors[name] = self.tensors[name].astype(np.float64)
            return self.hidden(way, [name], to=TensorProto.FLOAT)
        if way == "DequantizeLinear":
            scale = np.float32(np.abs(self.tensors[name]).max() / 127)
            whole = np.round(self.tensors[name] / scale)
            self.tensors[name] = np.where(whole == 0, 1, whole).astype(np.int8)  # zeros would pass nothing on
            return self.hidden(way, [name, self.constant(np.array(scale))])
        return self.hidden(way, [name]) if way else name

    def pick(self, rank: int) -> tuple[str, tuple[int, ...]]:
        """A value of that rank, more often a late one."""
        found = [value for value in self.values if len(value[1]) == rank]
        return found[max(self.random.randrange(len(found)), self.random.randrange(len(found)))]


Step = Callable[[RandomGraph], None]


def convolve(graph: RandomGraph) -> None:
    """A plain, grouped or depthwise convolution, sometimes with the weight of an earlier one."""
    name, (_, channels, *sizes) = graph.pick(4)
    outputs, kernel = graph.random.choice([4, 6, 8]), graph.random.choice([1, 3])
    groups = graph.random.choice([1, 1, 1, 2, channels])
    if channels % groups or outputs % groups:
        groups = 1
    if groups == channels:
        outputs = channels
    shape = (outputs, channels // groups, kernel, kernel)
    if shape not in graph.kernels or graph.random.random() < 0.8:
        graph.kernels[shape] = graph.normal(*shape)
    inputs = [name, graph.kernels[shape], *([graph.normal(outputs)] if graph.random.random() < 0.5 else [])]
    graph.node("Conv", inputs, (1, outputs, *sizes), group=groups, pads=[kernel // 2] * 4)


def deconvolve(graph: RandomGraph) -> None:
    name, (_, channels, *sizes) = graph.pick(4)
    outputs = graph.random.choice([4, 6])
    graph.node(
        "ConvTranspose", [name, graph.normal(channels, outputs, 3, 3)], (1, outputs, *sizes), pads=[1] * 4
    )


def normalise(graph: RandomGraph) -> None:
    name, shape = graph.pick(4)
    parts = [
        graph.positive(shape[1]),
        graph.normal(shape[1]),
        graph.normal(shape[1]),
        graph.positive(shape[1]),
    ]
    graph.node("BatchNormalization", [name, *parts], shape)


def activate(graph: RandomGraph) -> None:
    name, shape = graph.random.choice(graph.values)
    graph.node(graph.random.choice(_ACTIVATIONS), [name], shape)


def join(graph: RandomGraph) -> None:
    """Add or multiply two values of one shape, or a value and a constant per channel."""
    name, shape = graph.pick(4)
    others = [value for value, size in graph.values if size == shape]
    if graph.random.random() < 0.2:
        others = [graph.constant(np.ones((shape[1], 1, 1), np.float32) * 0.7)]
    graph.node(graph.random.choice(["Add", "Add", "Mul"]), [name, graph.random.choice(others)], shape)


def concatenate(graph: RandomGraph) -> None:
    name, shape = graph.pick(4)
    others = [value for value in graph.values if len(value[1]) == 4 and value[1][2:] == shape[2:]]
    other, size = graph.random.choice(others)
    if shape[1] + size[1] <= 24:
        graph.node("Concat", [name, other], (1, shape[1] + size[1], *shape[2:]), axis=1)


def split(graph: RandomGraph) -> None:
    name, shape = graph.pick(4)
    first = graph.random.randrange(1, shape[1]) if shape[1] > 1 else 0
    if not first:
        return
    graph.split(name, shape, 1, (first, shape[1] - first))


def cut(graph: RandomGraph) -> None:
    """Slice along the channels, sometimes with a step."""
    name, shape = graph.pick(4)
    start, step = graph.random.randrange(shape[1]), graph.random.choice([1, 1, 2])
    left = len(range(start, shape[1], step))
    bounds = [graph.ints(start), graph.ints(shape[1]), graph.ints(1), graph.ints(step)]
    graph.node("Slice", [name, *bounds], (1, left, *shape[2:]))


def pool(graph: RandomGraph) -> None:
    name, (_, channels, *sizes) = graph.pick(4)
    op = graph.random.choice(["MaxPool", "AveragePool", "AveragePool"])
    if min(sizes) >= 4:
        halved = (1, channels, *(size // 2 for size in sizes))
        graph.node(op, [name], halved, kernel_shape=[2, 2], strides=[2, 2])


def shuffle(graph: RandomGraph) -> None:
    name, (_, channels, *sizes) = graph.pick(4)
    if channels % 2:
        return
    halves = (1, 2, channels // 2, *sizes)
    a = graph.node("Reshape", [name, graph.ints(*halves)], halves)
    turned = (1, channels // 2, 2, *sizes)
    b = graph.node("Transpose", [a], turned, perm=[0, 2, 1, 3, 4])
    graph.node("Reshape", [b, graph.ints(1, channels, *sizes)], (1, channels, *sizes))


def transpose_twice(graph: RandomGraph) -> None:
    """To channels last, a matrix product over them, and back."""
    name, (_, channels, *sizes) = graph.pick(4)
    outputs = graph.random.choice([4, 6])
    last = graph.node("Transpose", [name], (1, *sizes, channels), perm=[0, 2, 3, 1])
    made = graph.node("MatMul", [last, graph.normal(channels, outputs)], (1, *sizes, outputs))
    graph.node("Transpose", [made], (1, outputs, *sizes), perm=[0, 3, 1, 2])


def gate(graph: RandomGraph) -> None:
    """Squeeze and excite."""
    name, shape = graph.pick(4)
    if shape[1] == 1:  # a single number that multiplies everything belongs to no channel
        return
    squeezed = graph.node("GlobalAveragePool", [name], (1, shape[1], 1, 1))
    made = graph.node("Conv", [squeezed, graph.normal(shape[1], shape[1], 1, 1)], (1, shape[1], 1, 1))
    opened = graph.node("Sigmoid", [made], (1, shape[1], 1, 1))
    graph.node("Mul", [name, opened], shape)


STEPS = (
    *(convolve,) * 4,
    *(join, activate) * 2,
    deconvolve,
    normalise,
    concatenate,
    split,
    cut,
    pool,
    shuffle,
    transpose_twice,
    gate,
)


def _head(graph: RandomGraph, name: str, shape: tuple[int, ...]) -> str:
    """Flatten or average, then one or two matrix products: an output."""
    size = int(np.prod(shape[1:]))
    if graph.random.random() < 0.5:
        size = shape[1]
        name = graph.node("GlobalAveragePool", [name], (1, size, 1, 1))
    way = graph.random.choice(["Flatten", "Reshape"])
    flat = graph.node(way, [name, *([graph.ints(1, size)] if way == "Reshape" else [])], (1, size))
    hidden = graph.node("Gemm", [flat, graph.normal(10, size), graph.normal(10)], (1, 10), transB=1)
    active = graph.node("Softsign", [hidden], (1, 10))
    return graph.node("MatMul", [active, graph.normal(10, 3)], (1, 3))


def draw_graph(random: Random, steps: int, ways: Sequence[Step] = STEPS) -> onnx.ModelProto:
    """A model of about so many operators, with one or two outputs."""
    graph = RandomGraph(random, values=[("x", (1, 3, 8, 8))])
    convolve(graph)
    graph.values.pop(0)  # so that all but the first layer read what layers make
    for _ in range(steps):
        random.choice(ways)(graph)
    ends = [value for value in graph.values if len(value[1]) == 4]
    picked = [ends[-1]] + ([random.choice(ends)] if random.random() < 0.3 else [])
    outputs = {_head(graph, *value): (1, 3) for value in picked}
    start = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    return model_of(graph, [start], outputs)


def model_of(
    graph: RandomGraph,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Mapping[str, tuple[int, ...]],
    opset: int = 17,
) -> onnx.ModelProto:
    """Only what the outputs need: exporters leave no dead ends."""
    needed, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    tensors = [numpy_helper.from_array(a, name) for name, a in graph.tensors.items() if name in needed]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in outputs.items()]
    made = helper.make_graph(kept[::-1], "random", inputs, ends, tensors)
    domains = [helper.make_opsetid(domain, version) for domain, version in (("", opset), *_DOMAINS)]
    used = {"", *(node.domain for node in kept)}
    return helper.make_model(
        made,
        opset_imports=[domain for domain in domains if domain.domain in used],
        ir_version=9 if opset < 21 else 11,
    )


def save_model(model: onnx.ModelProto, path: Path) -> Path:
    """The same as a file that the checker takes."""
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
