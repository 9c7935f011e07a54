"""Operators with weights as plain matrix products: rows of inputs, rows of outputs, one matrix per group.

Whatever a Conv, ConvTranspose, Gemm or MatMul does with a weight in layout (groups, outputs, inputs, *taps)
is `rows @ matrix.T` for each group, with columns (inputs · taps). Gram matrices, least squares and gradients
per sample are then the same few lines for all of them.
"""

import abc
import math
from collections.abc import Sequence
from typing import Any, final

import onnx_ir as ir
import torch
from torch.nn import functional

from worker.engine.types import Array

_RECURRENT = {"LSTM", "GRU", "RNN"}


class Unfolding(abc.ABC):
    """How one operator reads its data. Tensors are laid out as (groups, samples, positions, features)."""

    def __init__(self, node: ir.Node, data: ir.Value, shape: Sequence[int]) -> None:
        #: What the operator reads, and what it makes.
        self.data, self.made = data, node.outputs[0]
        self._shape = tuple(shape)

    @property
    def groups(self) -> int:
        """Number of independent products."""
        return self._shape[0]

    @property
    def outputs(self) -> int:
        """Outputs of each group."""
        return self._shape[1]

    @property
    def columns(self) -> int:
        """Inputs times taps of each group."""
        return math.prod(self._shape[2:])

    def matrix(self, weight: Array) -> Array:
        """A weight in the operator's layout as (groups, outputs, columns)."""
        return weight.reshape(self.groups, self.outputs, self.columns)

    def weight(self, matrix: Array) -> Array:
        """The reverse."""
        return matrix.reshape(self._shape)

    @abc.abstractmethod
    def positions(self, data: torch.Tensor) -> int:
        """How many rows each sample gives."""

    @abc.abstractmethod
    def rows(self, data: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """What the operator multiplies with its matrix, at the given positions or at all."""

    @abc.abstractmethod
    def results(self, made: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        """The operator's outputs (or gradients of them) as rows, at the same positions."""


def unfolding(node: ir.Node, weight: int, shape: Sequence[int]) -> Unfolding | str:
    """The unfolding of an operator whose input number `weight` is a weight of that shape (in the operator's
    layout), or the reason why there is none."""
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}:{node.op_type} has no plain product"
    if node.op_type in _RECURRENT:
        return "a recurrent operator uses its weights at every step of its state"
    if node.op_type in ("Conv", "ConvTranspose"):
        return _convolution(node, shape)
    if node.op_type in ("Gemm", "MatMul"):
        return _linear(node, weight, shape)
    return f"{node.op_type} has no plain product"


def _linear(node: ir.Node, weight: int, shape: Sequence[int]) -> Unfolding | str:
    data = node.inputs[1 - weight]
    if data is None or len(shape) != 3:
        return "a stack of matrices"
    return Linear(node, data, shape, left=weight == 0)


def _convolution(node: ir.Node, shape: Sequence[int]) -> Unfolding | str:
    data = node.inputs[0]
    automatic = attribute(node, "auto_pad", "NOTSET")
    if data is None:
        return "a convolution of nothing"
    if node.op_type == "Conv":
        return Convolution(node, data, shape)
    if automatic in ("SAME_UPPER", "SAME_LOWER") or "output_shape" in node.attributes:
        return "a transposed convolution whose padding follows from its output"
    return TransposedConvolution(node, data, shape)


@final
class Linear(Unfolding):
    """Gemm and MatMul. All axes but the features and the first are positions."""

    def __init__(self, node: ir.Node, data: ir.Value, shape: Sequence[int], *, left: bool) -> None:
        super().__init__(node, data, shape)
        self._left = left
        self._factor = float(attribute(node, "alpha", 1.0)) if node.op_type == "Gemm" else 1.0

    def positions(self, data: torch.Tensor) -> int:
        return self._flat(data).shape[1]

    def rows(self, data: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        flat = _at(self._flat(data), positions, 1)
        return (flat if self._factor == 1.0 else flat * self._factor)[None]

    def results(self, made: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        return _at(self._flat(made), positions, 1)[None]

    def _flat(self, data: torch.Tensor) -> torch.Tensor:
        """(samples, positions, features)."""
        moved = data.movedim(-2, -1) if self._left and data.dim() > 1 else data
        # A matrix of columns and a lone vector have no axis of samples.
        samples = 1 if moved.dim() == 1 or (self._left and moved.dim() == 2) else moved.shape[0]
        return moved.reshape(samples, -1, moved.shape[-1])


class _Spatial(Unfolding):
    """What convolutions share: which padded inputs every position and tap reads."""

    def __init__(self, node: ir.Node, data: ir.Value, shape: Sequence[int]) -> None:
        super().__init__(node, data, shape)
        self.taps = tuple(shape[3:])
        rank = len(self.taps)
        self.strides = tuple(attribute(node, "strides", [1] * rank))
        self.dilations = tuple(attribute(node, "dilations", [1] * rank))
        self._pads = tuple(attribute(node, "pads", [0] * 2 * rank))
        self._automatic = attribute(node, "auto_pad", "NOTSET")

    def results(self, made: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        flat = _at(made.flatten(2), positions, 2)
        grouped = flat.reshape(flat.shape[0], self.groups, self.outputs, flat.shape[2])
        return grouped.permute(1, 0, 3, 2)

    def pads(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Padding before and after each spatial axis of these sizes."""
        rank = len(self.taps)
        if self._automatic in ("NOTSET", ""):
            return [(self._pads[i], self._pads[rank + i]) for i in range(rank)]
        if self._automatic == "VALID":
            return [(0, 0)] * rank
        return [self._same(size, axis) for axis, size in enumerate(sizes)]

    def _same(self, size: int, axis: int) -> tuple[int, int]:
        reach = self.dilations[axis] * (self.taps[axis] - 1) + 1
        total = max(0, (math.ceil(size / self.strides[axis]) - 1) * self.strides[axis] + reach - size)
        less, more = total // 2, total - total // 2
        return (less, more) if self._automatic == "SAME_UPPER" else (more, less)

    def _unfold(
        self,
        padded: torch.Tensor,
        steps: Sequence[int],
        offsets: Sequence[Sequence[int]],
        positions: torch.Tensor | None,
    ) -> torch.Tensor:
        """Rows of a padded input whose positions lie `steps` apart and read at `offsets` from there."""
        index = _at(_indices(padded.shape[2:], steps, offsets, padded.device), positions, 0)
        taken = padded.flatten(2)[:, :, index.reshape(-1)]
        shape = (padded.shape[0], self.groups, padded.shape[1] // self.groups, *index.shape)
        grouped = taken.reshape(shape).permute(1, 0, 3, 2, 4)
        return grouped.reshape(*grouped.shape[:3], -1)


@final
class Convolution(_Spatial):
    """Conv over any number of axes."""

    def positions(self, data: torch.Tensor) -> int:
        sizes = _padded_sizes(data.shape[2:], self.pads(data.shape[2:]))
        return math.prod(
            (size - self.dilations[i] * (self.taps[i] - 1) - 1) // self.strides[i] + 1
            for i, size in enumerate(sizes)
        )

    def rows(self, data: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        padded = _pad(data, self.pads(data.shape[2:]))
        offsets = [[self.dilations[i] * tap for tap in range(n)] for i, n in enumerate(self.taps)]
        return self._unfold(padded, self.strides, offsets, positions)


@final
class TransposedConvolution(_Spatial):
    """ConvTranspose: a convolution of the input with zeros between its elements, taps in reverse."""

    def __init__(self, node: ir.Node, data: ir.Value, shape: Sequence[int]) -> None:
        super().__init__(node, data, shape)
        self._more = tuple(attribute(node, "output_padding", [0] * len(self.taps)))

    def positions(self, data: torch.Tensor) -> int:
        sizes = _padded_sizes(self._spread_sizes(data), self._reach(data))
        return math.prod(size - self.dilations[i] * (self.taps[i] - 1) for i, size in enumerate(sizes))

    def rows(self, data: torch.Tensor, positions: torch.Tensor | None = None) -> torch.Tensor:
        spread = data.new_zeros(*data.shape[:2], *self._spread_sizes(data))
        places = tuple(slice(None, None, stride) for stride in self.strides)
        spread[(slice(None), slice(None), *places)] = data
        padded = _pad(spread, self._reach(data))
        offsets = [[self.dilations[i] * (n - 1 - tap) for tap in range(n)] for i, n in enumerate(self.taps)]
        return self._unfold(padded, (1,) * len(self.taps), offsets, positions)

    def _spread_sizes(self, data: torch.Tensor) -> list[int]:
        return [(size - 1) * stride + 1 for size, stride in zip(data.shape[2:], self.strides, strict=True)]

    def _reach(self, data: torch.Tensor) -> list[tuple[int, int]]:
        reach = [dilation * (taps - 1) for dilation, taps in zip(self.dilations, self.taps, strict=True)]
        pads = self.pads(data.shape[2:])
        return [(r - a, r - b + more) for r, (a, b), more in zip(reach, pads, self._more, strict=True)]


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """An attribute's value, or `default`."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def _at(tensor: torch.Tensor, positions: torch.Tensor | None, axis: int) -> torch.Tensor:
    return tensor if positions is None else tensor.index_select(axis, positions.to(tensor.device))


def _pad(data: torch.Tensor, pads: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Zeros around the spatial axes; negative padding crops."""
    return functional.pad(data, [size for pair in reversed(pads) for size in pair])


def _padded_sizes(sizes: Sequence[int], pads: Sequence[tuple[int, int]]) -> list[int]:
    return [size + before + after for size, (before, after) in zip(sizes, pads, strict=True)]


def _indices(
    sizes: Sequence[int], steps: Sequence[int], offsets: Sequence[Sequence[int]], device: torch.device
) -> torch.Tensor:
    """Flat spatial index that every position (rows) reads at every tap (columns)."""
    starts = [
        range(0, size - max(reach), step) for size, step, reach in zip(sizes, steps, offsets, strict=True)
    ]
    place, tap = torch.zeros((1, 1), dtype=torch.int64), torch.zeros((1, 1), dtype=torch.int64)
    for size, start, reach in zip(sizes, starts, offsets, strict=True):
        place = (place.reshape(-1, 1) * size + torch.tensor(start).reshape(1, -1)).reshape(-1, 1)
        tap = (tap.reshape(-1, 1) * size + torch.tensor(reach).reshape(1, -1)).reshape(1, -1)
    return (place + tap).to(device)
