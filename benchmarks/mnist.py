"""MNIST and the multilayer perceptron of the LAP protocol: reading, training, writing as ONNX.

Protocol: 784-500-500-500-500-10, Xavier-normal weights, zero biases, Adam 1.2e-3, batches of 60 distinct
random images, error after the last step.
"""

import gzip
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

WIDTHS = (784, 500, 500, 500, 500, 10)
_MEAN, _DEVIATION = 0.1307, 0.3081
_RATE, _BATCH = 1.2e-3, 60

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Images:
    """Normalised images (rows, 784) and their classes."""

    x: Tensor
    y: Tensor


@final
@dataclass(frozen=True)
class Net:
    """Weights (out, in) and biases, layer by layer."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]


def read(folder: Path, part: str) -> Images:
    """`train` or `t10k` from the four files MNIST is known by."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        classes = np.frombuffer(file.read(), np.uint8, offset=8)
    x = (pixels.astype(np.float32) / 255 - np.float32(_MEAN)) / np.float32(_DEVIATION)
    return Images(torch.from_numpy(x), torch.from_numpy(classes.astype(np.int64)))


def fresh(seed: int) -> Net:
    """An untrained network."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.empty(outs, ins) for ins, outs in itertools.pairwise(WIDTHS)]
    for weight in weights:
        nn.init.xavier_normal_(weight, generator=generator)
    return Net(tuple(w.numpy() for w in weights), tuple(np.zeros(n, np.float32) for n in WIDTHS[1:]))


@final
class Live(nn.Module):
    """The part of a masked network that reaches the output.

    A column of zeros reads nothing, so the unit before it need not be computed: leaving both out gives the
    same outputs and the same gradients, and a network with 0.4 % of its weights trains much faster.
    """

    def __init__(self, net: Net, masks: Sequence[Array]) -> None:
        super().__init__()
        self._net = net
        reads = [np.flatnonzero(mask.any(0)) for mask in masks]
        self._rows = [*reads[1:], np.arange(WIDTHS[-1])]
        self._columns = reads
        self.pixels = torch.from_numpy(reads[0])
        self._masks = [
            torch.from_numpy(self._cut(mask, i).astype(np.float32)) for i, mask in enumerate(masks)
        ]
        self.weights = nn.ParameterList(torch.from_numpy(self._cut(w, i)) for i, w in enumerate(net.weights))
        self.biases = nn.ParameterList(
            torch.from_numpy(b[self._rows[i]].copy()) for i, b in enumerate(net.biases)
        )

    def _cut(self, array: Array, layer: int) -> Array:
        return np.ascontiguousarray(array[np.ix_(self._rows[layer], self._columns[layer])])

    def forward(self, x: Tensor) -> Tensor:
        """Logits of images that have been cut to `pixels`."""
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = nn.functional.linear(x.relu() if index else x, weight, bias)
        return x

    def hold_masks(self) -> None:
        """Take the gradient from pruned weights: Adam then leaves them at zero."""
        for weight, mask in zip(self.weights, self._masks, strict=True):
            assert weight.grad is not None
            weight.grad.mul_(mask)

    def net(self) -> Net:
        """The whole network again, with what has been learnt."""
        weights, biases = [w.copy() for w in self._net.weights], [b.copy() for b in self._net.biases]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            weights[index][np.ix_(self._rows[index], self._columns[index])] = weight.detach().numpy()
            biases[index][self._rows[index]] = bias.detach().numpy()
        return Net(tuple(weights), tuple(biases))


def train(net: Net, masks: Sequence[Array] | None, images: Images, steps: int, seed: int) -> Net:
    """`steps` steps of Adam from `net` on; weights that a mask leaves out stay zero."""
    live = Live(net, masks or [np.ones(w.shape, bool) for w in net.weights])
    x = images.x[:, live.pixels].contiguous()
    optimizer = torch.optim.Adam(live.parameters(), lr=_RATE, fused=True)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        rows = torch.from_numpy(rng.choice(len(x), _BATCH, replace=False, shuffle=False))
        optimizer.zero_grad()
        nn.functional.cross_entropy(live(x[rows]), images.y[rows]).backward()  # type: ignore[no-untyped-call]
        if masks is not None:
            live.hold_masks()
        optimizer.step()
    return live.net()


def error_percent(net: Net, images: Images) -> float:
    """Share of images whose class is not found, in percent."""
    x = images.x
    with torch.inference_mode():
        for index, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            x = nn.functional.linear(
                x.relu() if index else x, torch.from_numpy(weight), torch.from_numpy(bias)
            )
    return 100.0 * float((x.argmax(1) != images.y).float().mean())


def write_onnx(net: Net, path: Path) -> Path:
    """The network as a user would upload it: Gemm and Relu, layers `fc0` to `fc4`."""
    nodes, tensors, now = [], [], "x"
    for index, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        name = f"fc{index}"
        tensors += [
            numpy_helper.from_array(weight, f"{name}.weight"),
            numpy_helper.from_array(bias, f"{name}.bias"),
        ]
        inputs = [f"{name}.relu" if index else now, f"{name}.weight", f"{name}.bias"]
        if index:
            nodes.append(helper.make_node("Relu", [now], [f"{name}.relu"]))
        nodes.append(helper.make_node("Gemm", inputs, [f"{name}.out"], name=name, transB=1))
        now = f"{name}.out"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", w]) for n, w in (("x", 784), (now, 10))]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def read_onnx(path: Path) -> Net:
    """Weights and biases of a file like that."""
    tensors = {t.name: numpy_helper.to_array(t).copy() for t in onnx.load(path).graph.initializer}
    count = len(WIDTHS) - 1
    return Net(
        tuple(tensors[f"fc{index}.weight"] for index in range(count)),
        tuple(tensors[f"fc{index}.bias"] for index in range(count)),
    )
