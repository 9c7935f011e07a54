"""Plain chains (MLP, VGG-style) as ONNX files, with the weights that went in beside them."""

from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Chain:
    """A file, its weights as (out, in, *taps), batch-norm slopes per layer."""

    path: Path
    weights: list[Array]
    slopes: list[Array | None]
    names: list[str]
    batch_norms: list[dict[str, Array] | None] = field(default_factory=list)


@dataclass
class _Builder:
    rng: np.random.Generator
    dtype: Any
    nodes: list[Any] = field(default_factory=list)
    initializers: list[Any] = field(default_factory=list)
    now: str = "x"

    def constant(self, name: str, array: Array) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        out = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, [self.now, *inputs], [out], name=f"node{len(self.nodes)}", **attributes)
        )
        self.now = out
        return out

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(self.dtype)


def _batch_norm(build: _Builder, name: str, channels: int, epsilon: float) -> tuple[Array, dict[str, Array]]:
    parts = {
        "scale": build.normal(channels),
        "bias": build.normal(channels),
        "mean": build.normal(channels),
        "var": np.abs(build.normal(channels)) + build.dtype(0.05),
    }
    build.node(
        "BatchNormalization", [build.constant(f"{name}.{k}", v) for k, v in parts.items()], epsilon=epsilon
    )
    slope = parts["scale"].astype(np.float64) / np.sqrt(parts["var"].astype(np.float64) + np.float32(epsilon))
    return slope, parts


def _linear(build: _Builder, name: str, weight: Array, style: str) -> None:
    if style == "gemm":
        bias = build.constant(f"{name}.bias", build.normal(weight.shape[0]))
        build.node("Gemm", [build.constant(f"{name}.weight", weight), bias], transB=1)
    elif style == "gemm_plain":
        build.node("Gemm", [build.constant(f"{name}.weight", weight.T)])
    else:
        build.node("MatMul", [build.constant(f"{name}.weight", weight.T)])


def mlp(
    path: Path,
    widths: list[int],
    *,
    seed: int = 0,
    style: str = "gemm",
    norm: bool = False,
    dtype: Any = np.float32,
) -> Chain:
    """Linear layers with ReLU between them, and batch norm before it when asked."""
    build = _Builder(np.random.default_rng(seed), dtype)
    chain = Chain(path, [], [], [])
    for i, (ins, outs) in enumerate(pairwise(widths)):
        weight = build.normal(outs, ins)
        _linear(build, f"fc{i}", weight, style)
        last = i == len(widths) - 2
        slope = None
        if not last and norm:
            slope, _ = _batch_norm(build, f"bn{i}", outs, 1e-3)
        if not last:
            build.node("Relu", [])
        chain.weights.append(weight)
        chain.slopes.append(slope)
        chain.names.append(f"fc{i}")
    _save(build, path, [None, widths[0]], [None, widths[-1]])
    return chain


def vgg(
    path: Path,
    channels: list[int],
    hidden: list[int],
    *,
    seed: int = 0,
    norm: bool = True,
    size: int = 8,
    kernel: int = 3,
    dtype: Any = np.float32,
) -> Chain:
    """Convolutions (padding same, one 2×2 pooling), flatten over what is left of the map, linear layers."""
    build = _Builder(np.random.default_rng(seed), dtype)
    chain = Chain(path, [], [], [])
    for i, (ins, outs) in enumerate(pairwise(channels)):
        weight = build.normal(outs, ins, kernel, kernel)
        bias = build.constant(f"conv{i}.bias", build.normal(outs))
        build.node("Conv", [build.constant(f"conv{i}.weight", weight), bias], pads=[kernel // 2] * 4)
        slope = _batch_norm(build, f"bn{i}", outs, 1e-3)[0] if norm else None
        build.node("Relu", [])
        chain.weights.append(weight)
        chain.slopes.append(slope)
        chain.names.append(f"conv{i}")
    build.node("MaxPool", [], kernel_shape=[2, 2], strides=[2, 2])
    build.node("Flatten", [])
    widths = [channels[-1] * (size // 2) ** 2, *hidden]
    for i, (ins, outs) in enumerate(pairwise(widths)):
        weight = build.normal(outs, ins)
        _linear(build, f"fc{i}", weight, "gemm")
        if i < len(hidden) - 1:
            build.node("Relu", [])
        chain.weights.append(weight)
        chain.slopes.append(None)
        chain.names.append(f"fc{i}")
    _save(build, path, [None, channels[0], size, size], [None, hidden[-1]])
    return chain


def _save(build: _Builder, path: Path, inputs: list[Any], outputs: list[Any], opset: int = 17) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(build.dtype))
    graph = helper.make_graph(
        build.nodes,
        "chain",
        [helper.make_tensor_value_info("x", kind, ["N", *inputs[1:]])],
        [helper.make_tensor_value_info(build.now, kind, ["N", *outputs[1:]])],
        build.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
