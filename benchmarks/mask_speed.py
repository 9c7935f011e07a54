"""Lookahead masks for VGG-19 (20 million weights): the engine against a copy of the weights and two others.

Each round runs every contender once, in turn; the medians over the rounds are shown. The rounds' first is
thrown away. `engine` is scoring and exact selection, without the histograms for the report.
"""

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn.utils import prune as torch_prune

from api_schemas.recipe import RecipeRequest, resolve
from benchmarks.output import markdown, note, parser, save, say
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.formats.base import LoadOptions
from worker.engine.planning import analyse, goal_of, resolve_parts, select
from worker.engine.types import Plan

Array = np.ndarray[Any, np.dtype[Any]]

#: Output channels of VGG-19's convolutions; `None` pools.
_LAYOUT = (64, 64, None, 128, 128, None, *[256] * 4, None, *[512] * 4, None, *[512] * 4, None)
_EPSILON = 1e-5


@final
@dataclass(frozen=True)
class Layer:
    """A weight (out, in, *taps) and the batch-norm slope of its outputs."""

    weight: Array
    slope: Array | None


def vgg19(scale: float, seed: int = 0) -> list[Layer]:
    """16 convolutions with batch norm and one linear layer; `scale` makes it narrower for a quick try."""
    rng = np.random.default_rng(seed)
    widths = [3, *(max(1, int(width * scale)) for width in _LAYOUT if width is not None)]
    layers = [
        Layer(_normal(rng, outs, ins, 3, 3), np.abs(_normal(rng, outs)) + np.float32(0.1))
        for ins, outs in itertools.pairwise(widths)
    ]
    return [*layers, Layer(_normal(rng, 10, widths[-1]), None)]


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, np.float32)


def write(layers: Sequence[Layer], path: Path) -> Path:
    """The network as ONNX, 32 × 32 images in."""
    nodes, tensors, now = [], [], "x"
    remaining = list(layers)
    for index, width in enumerate(_LAYOUT):
        if width is None:
            nodes.append(
                helper.make_node("MaxPool", [now], [f"p{index}"], kernel_shape=[2, 2], strides=[2, 2])
            )
            now = f"p{index}"
            continue
        added, held = _convolution(remaining.pop(0), f"conv{index}", now)
        nodes += added
        tensors += held
        now = f"conv{index}.out"
    tensors.append(numpy_helper.from_array(remaining[0].weight, "classes.weight"))
    nodes.append(helper.make_node("Flatten", [now], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "classes.weight"], ["y"], name="classes", transB=1))
    ends = ([_value("x", [1, 3, 32, 32])], [_value("y", [1, 10])])
    graph = helper.make_graph(nodes, "vgg19", *ends, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def _value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _convolution(layer: Layer, name: str, source: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Conv, BatchNormalization of the slope wanted, Relu."""
    assert layer.slope is not None
    channels = layer.slope.size
    norm = {
        "scale": layer.slope,
        "bias": np.zeros(channels, np.float32),
        "mean": np.zeros(channels, np.float32),
        "var": np.full(channels, 1.0 - _EPSILON, np.float32),
    }
    held = {f"{name}.weight": layer.weight, **{f"{name}.{key}": value for key, value in norm.items()}}
    nodes = [
        helper.make_node("Conv", [source, f"{name}.weight"], [f"{name}.z"], name=name, pads=[1] * 4),
        helper.make_node(
            "BatchNormalization",
            [f"{name}.z", *(f"{name}.{key}" for key in norm)],
            [f"{name}.n"],
            name=f"{name}.norm",
            epsilon=_EPSILON,
        ),
        helper.make_node("Relu", [f"{name}.n"], [f"{name}.out"]),
    ]
    return nodes, [numpy_helper.from_array(array, key) for key, array in held.items()]


def engine(path: Path, scratch: Path, sparsity: float, threads: int) -> Callable[[], Plan]:
    """The engine's own path from scores to masks, the file loaded and analysed beforehand."""
    request = RecipeRequest.model_validate(
        {"criterion": {"name": "lookahead"}, "target": {"sparsity": sparsity}}
    )
    recipe = resolve(request, {})
    parts, context = resolve_parts(recipe), Context(scratch, threads=threads)
    network = formats.load(path, LoadOptions(scratch=scratch))
    graph = analyse(network, {}, recipe, context)
    goal = goal_of(parts, recipe)
    return lambda: select(parts, network, graph, goal, context, histograms=False)


def naive(layers: Sequence[Layer], sparsity: float) -> list[torch.Tensor]:
    """The published procedure as one would write it down: a score tensor and a full sort per layer."""
    weights = [torch.from_numpy(layer.weight) for layer in layers]
    masks = []
    for index, weight in enumerate(weights):
        score = weight.square()
        if index > 0:
            energy = weights[index - 1].square().flatten(1).sum(1) * _slope(layers[index - 1])
            score = score * _along(energy.repeat_interleave(weight.shape[1] // energy.numel()), score, 1)
        if index + 1 < len(weights):
            following = weights[index + 1].square().transpose(0, 1).flatten(1).sum(1)
            energy = following.reshape(weight.shape[0], -1).sum(1) * _slope(layers[index])
            score = score * _along(energy, score, 0)
        masks.append(_largest(score, round((1 - sparsity) * score.numel())))
    return masks


def _slope(layer: Layer) -> torch.Tensor | float:
    return 1.0 if layer.slope is None else torch.from_numpy(layer.slope).square()


def _along(energy: torch.Tensor, score: torch.Tensor, axis: int) -> torch.Tensor:
    return energy.reshape([-1 if axis == position else 1 for position in range(score.ndim)])


def _largest(score: torch.Tensor, count: int) -> torch.Tensor:
    order = torch.sort(score.flatten(), descending=True).indices
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[order[:count]] = True
    return mask.reshape(score.shape)


def torch_global(layers: Sequence[Layer], sparsity: float) -> None:
    """torch's own pruning, one ranking by magnitude; it leaves its masks on fresh modules each time."""
    modules = [nn.Conv2d(1, 1, 1) for _ in layers]
    for module, layer in zip(modules, layers, strict=True):
        module.weight = nn.Parameter(torch.from_numpy(layer.weight))
    pairs = [(module, "weight") for module in modules]
    torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, amount=sparsity)


def copies(layers: Sequence[Layer]) -> Callable[[], None]:
    """One copy of all weights into memory that is there already."""
    targets = [np.empty_like(layer.weight) for layer in layers]

    def copy() -> None:
        for target, layer in zip(targets, layers, strict=True):
            np.copyto(target, layer.weight)

    return copy


def agreement(layers: Sequence[Layer], plan: Plan, sparsity: float) -> float:
    """Share of weights on which engine and naive form agree; the naive one scores in float32."""
    same = total = 0
    for item, mask in zip(plan.layers, naive(layers, sparsity), strict=True):
        same += int(np.count_nonzero(item.keep.reshape(-1) == mask.numpy().reshape(-1)))
        total += mask.numel()
    return same / total


def timed(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each, over interleaved rounds after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for index in range(rounds + 1):
        for name, run in contenders.items():
            begun = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begun)
        note(f"round {index} of {rounds}")
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> int:
    """Time everything and show it."""
    arguments = parser(__doc__)
    arguments.add_argument("--sparsity", type=float, default=0.9)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--scale", type=float, default=1.0, help="width of the network")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    layers = vgg19(options.scale)
    with tempfile.TemporaryDirectory() as name:
        run = engine(write(layers, Path(name, "vgg.onnx")), Path(name), options.sparsity, options.threads)
        agreed = agreement(layers, run(), options.sparsity)
        contenders = {
            "one copy, into new memory": lambda: [layer.weight.copy() for layer in layers],
            "one copy, into memory that is there": copies(layers),
            "engine, lookahead": run,
            "naive lookahead, a sort per layer": lambda: naive(layers, options.sparsity),
            "torch global_unstructured, magnitude": lambda: torch_global(layers, options.sparsity),
        }
        seconds = timed(contenders, options.rounds)
    count = sum(layer.weight.size for layer in layers)
    unit = seconds["one copy, into new memory"]
    say(f"{count:,} weights, {options.threads} threads, median of {options.rounds} interleaved rounds")
    rows = [(label, f"{value * 1e3:,.1f}", f"{value / unit:,.1f}") for label, value in seconds.items()]
    say(markdown(("", "ms", "copies into new memory"), rows))
    say(f"engine and naive masks agree on {agreed:.5%} of the weights")
    save(
        options.json, {"weights": count, "seconds": seconds, "agreement": agreed, "threads": options.threads}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
