"""How an operator sees a stored tensor: through Transpose, Reshape, Identity, Cast and DequantizeLinear.

Every step is one to one, so a mask found in the operator's layout can be carried back to the file's.
"""

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, np.dtype[Any]]


class Step(abc.ABC):
    """A one-to-one rearrangement of a tensor's elements."""

    @abc.abstractmethod
    def forward(self, array: Array) -> Array:
        """From the file's side to the operator's."""

    @abc.abstractmethod
    def back(self, array: Array) -> Array:
        """From the operator's side to the file's."""


@final
@dataclass(frozen=True)
class Transposed(Step):
    """Axes in another order."""

    order: tuple[int, ...]

    def forward(self, array: Array) -> Array:
        return array.transpose(self.order)

    def back(self, array: Array) -> Array:
        return array.transpose(np.argsort(self.order))


@final
@dataclass(frozen=True)
class Reshape(Step):
    """The same elements in another shape."""

    before: tuple[int, ...]
    after: tuple[int, ...]

    def forward(self, array: Array) -> Array:
        return array.reshape(self.after)

    def back(self, array: Array) -> Array:
        return array.reshape(self.before)


@dataclass(frozen=True)
class Quantization:
    """Integers that stand for (q − zero_point) · scale; both broadcast to the stored shape."""

    scale: Array
    zero_point: Array


@dataclass(frozen=True)
class WeightView:
    """A stored tensor and the steps to the layout (groups, outputs / group, inputs / group, *taps)."""

    value: ir.Value
    shape: tuple[int, ...]
    steps: tuple[Step, ...] = ()
    quantization: Quantization | None = None

    def then(self, *steps: Step) -> "WeightView":
        """The view with more steps on the operator's side."""
        return WeightView(self.value, self.shape, self.steps + steps, self.quantization)

    def forward(self, stored: Array) -> Array:
        """An array of the stored shape in the operator's layout; a numpy view where numpy can."""
        for step in self.steps:
            stored = step.forward(stored)
        return stored

    def back(self, seen: Array) -> Array:
        """An array of the operator's layout in the stored shape."""
        for step in reversed(self.steps):
            seen = step.back(seen)
        return seen

    def seen_shape(self) -> tuple[int, ...]:
        """The shape in the operator's layout."""
        return tuple(self.forward(np.broadcast_to(np.int8(0), self.shape)).shape)

    def same_as(self, other: "WeightView") -> bool:
        """True when both show the same tensor in the same layout."""
        return self.value is other.value and self.steps == other.steps


def transposed(order: Sequence[int]) -> Transposed:
    """A transpose step."""
    return Transposed(tuple(int(axis) for axis in order))
