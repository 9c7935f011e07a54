"""Random graphs of the operators that networks are made of, with valid shapes and random weights."""

from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
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
        scale = 1.0 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.constant((rng.standard_normal(shape) * scale).astype(np.float32))

    def positive(self, size: int) -> str:
        """Store random numbers around one."""
        rng = np.random.default_rng(self.random.randrange(1 << 30))
        return self.constant(rng.uniform(0.5, 1.5, size).astype(np.float32))

    def ints(self, *numbers: int) -> str:
        """Store integers."""
        return self.constant(np.array(numbers, np.int64))

    def pick(self, rank: int) -> tuple[str, tuple[int, ...]]:
        """A value of that rank, more often a late one."""
        found = [value for value in self.values if len(value[1]) == rank]
        return found[max(self.random.randrange(len(found)), self.random.randrange(len(found)))]


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
    sizes = (first, shape[1] - first)
    names = [f"v{len(graph.nodes)}.{part}" for part in range(2)]
    node = helper.make_node(
        "Split", [name, graph.ints(*sizes)], names, axis=1, name=f"Split{len(graph.nodes)}"
    )
    graph.nodes.append(node)
    graph.values += [(part, (1, size, *shape[2:])) for part, size in zip(names, sizes, strict=True)]


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


def draw_graph(random: Random, steps: int) -> onnx.ModelProto:
    """A model of about so many operators, with one or two outputs."""
    graph = RandomGraph(random, values=[("x", (1, 3, 8, 8))])
    convolve(graph)
    graph.values.pop(0)  # so that all but the first layer read what layers make
    for _ in range(steps):
        random.choice(STEPS)(graph)
    ends = [value for value in graph.values if len(value[1]) == 4]
    picked = [ends[-1]] + ([random.choice(ends)] if random.random() < 0.3 else [])
    outputs = [_head(graph, *value) for value in picked]
    return _model(graph, outputs)


def _model(graph: RandomGraph, outputs: list[str]) -> onnx.ModelProto:
    """Only what the outputs need: exporters leave no dead ends."""
    needed, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    tensors = [numpy_helper.from_array(a, name) for name, a in graph.tensors.items() if name in needed]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in outputs]
    start = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    made = helper.make_graph(kept[::-1], "random", start, ends, tensors)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def save_graph(random: Random, steps: int, path: Path) -> Path:
    """The same as a file that the checker takes."""
    model = draw_graph(random, steps)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
