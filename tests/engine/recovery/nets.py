"""A small network of several kinds of layers, its upload and a pruned copy of it, with rows of data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import load_dataset
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph.build import build
from worker.engine.recovery.base import Pruned, Recovery

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Healed:
    """What came of a recovery."""

    network: Network
    masks: dict[ir.Value, Array]
    before: dict[str, Array]
    after: dict[str, Array]
    warnings: Sequence[str]
    path: Path


def save(path: Path, nodes: list[Any], arrays: dict[str, Array], shape: list[int], outputs: int) -> Path:
    """A model of these nodes from `x` (rows, *shape) to `y` (rows, outputs)."""
    dtype = helper.np_dtype_to_tensor_dtype(next(iter(arrays.values())).dtype)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, ["n", *shape])],
        [helper.make_tensor_value_info("y", dtype, ["n", outputs])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def mixed(path: Path, dtype: Any = np.float32) -> Path:
    """Conv, batch norm, depthwise Conv with bias, grouped Conv, pooling, MatMul with Add, Gemm with beta."""
    rng = np.random.default_rng(3)

    def draw(*size: int) -> Array:
        drawn: Array = rng.standard_normal(size) / np.sqrt(math.prod(size[1:]))
        return drawn.astype(dtype)

    arrays = {
        "stem.weight": draw(8, 3, 3, 3),
        "bn.scale": (np.abs(draw(8)) + 0.5).astype(dtype),
        "bn.bias": draw(8),
        "bn.mean": draw(8),
        "bn.var": (np.abs(draw(8)) + 0.5).astype(dtype),
        "deep.weight": draw(8, 1, 3, 3) * dtype(2),
        "deep.bias": draw(8),
        "grouped.weight": draw(8, 4, 1, 1),
        "hidden.weight": draw(8, 10),
        "hidden.bias": draw(10),
        "head.weight": draw(5, 10),
        "head.bias": draw(5),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "stem.weight"], ["a"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["a", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Conv", ["c", "deep.weight", "deep.bias"], ["d"], group=8, strides=[2, 2]),
        node("Relu", ["d"], ["e"]),
        node("Conv", ["e", "grouped.weight"], ["f"], group=2),
        node("Relu", ["f"], ["g"]),
        node("GlobalAveragePool", ["g"], ["h"]),
        node("Flatten", ["h"], ["i"]),
        node("MatMul", ["i", "hidden.weight"], ["j"]),
        node("Add", ["j", "hidden.bias"], ["k"]),
        node("Relu", ["k"], ["l"]),
        node("Gemm", ["l", "head.weight", "head.bias"], ["y"], transB=1, beta=0.5),
    ]
    return save(path, nodes, arrays, [3, 9, 9], 5)


def pictures(rows: int, seed: int = 0) -> Array:
    """Rows for it, with a mean that is not zero."""
    drawn = np.random.default_rng(seed).standard_normal((rows, 3, 9, 9)) + 0.7
    return drawn.astype(np.float32)


def heal(path: Path, scratch: Path, recovery: Recovery, x: Array, sparsity: float = 0.5) -> Healed:
    """Prune the smallest weights of every layer, heal, and save."""
    np.savez(scratch / "rows.npz", x=x)
    network, original = (formats.load(path, LoadOptions(scratch=scratch)) for _ in range(2))
    graph = build(network)
    masks: dict[ir.Value, Array] = {}
    for layer in graph.layers if sparsity else ():
        stored = network.read(layer.view.value)
        keep = np.abs(stored) > np.quantile(np.abs(stored), sparsity)
        network.write(layer.view.value, np.where(keep, stored, 0).astype(stored.dtype))
        masks[layer.view.value] = keep
    data = load_dataset(scratch / "rows.npz", network.inputs)
    learning, held_out = data.split(0.25, 0)
    context = Context(scratch)
    before = tensors(network)
    recovery.heal(Pruned(network, graph, original, masks, learning, held_out), context)
    saved = scratch / "healed.onnx"
    network.save(saved)
    return Healed(network, masks, before, tensors(network), context.warnings, saved)


def tensors(network: Network) -> dict[str, Array]:
    """Every stored tensor by name, copied."""
    values = network.structure.graph.initializers.values()
    return {value.name or "": np.array(network.read(value)) for value in values}
