"""One node of the graph, made ready to be called many times: attributes read once, bodies bound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.operators.sizes import Sizes

#: What an edge of the graph carries: a tensor, host integers, a sequence, nothing (optional input).
Value = Tensor | Sizes | list[Any] | None
Body = Callable[..., tuple[Any, ...]]

#: ONNX's numbers of element types that torch computes with.
TORCH_TYPES: Mapping[int, torch.dtype] = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    4: torch.uint16,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    12: torch.uint32,
    13: torch.uint64,
    14: torch.complex64,
    15: torch.complex128,
    16: torch.bfloat16,
    17: torch.float8_e4m3fn,
    18: torch.float8_e4m3fnuz,
    19: torch.float8_e5m2,
    20: torch.float8_e5m2fnuz,
    21: torch.uint8,
    22: torch.int8,
    24: torch.float8_e8m0fnu,
    25: torch.uint8,
    26: torch.int8,
}
#: Names for builtin types that methods of `Call` are called like.
_Int = int
_Float = float
_Ints = tuple[int, ...]
_Floats = tuple[float, ...]
_HALF = (torch.float16, torch.bfloat16)


@final
@dataclass
class Mode:
    """What all calls of a module share and a user may switch."""

    device: torch.device
    #: Compute everything floating in this type; None: half precision in float32, the rest as the file says.
    floating: torch.dtype | None = None
    #: Batch norm by each batch's own statistics, updating the running ones.
    batch_norm_training: bool = False

    def computed(self, dtype: torch.dtype) -> torch.dtype:
        """The type in which values of a type of the file are held."""
        if not dtype.is_floating_point or dtype.itemsize == 1:
            return dtype
        if self.floating is not None:
            return self.floating
        return torch.float32 if dtype in _HALF else dtype


@final
@dataclass(frozen=True, eq=False)
class Call:
    """A node as its implementation sees it. Attributes are plain values; tensors are on the device."""

    operator: str
    domain: str
    name: str
    opset: _Int
    #: How many outputs the node has; trailing ones without a name are not counted.
    outputs: _Int
    #: Which of them anything is called by (an optional output left out in the middle is False).
    wanted: tuple[bool, ...]
    mode: Mode
    attributes: Mapping[str, Any] = field(default_factory=dict)
    #: Bodies of If, Loop and Scan, bound to the values around the node.
    bodies: Mapping[str, Body] = field(default_factory=dict)
    #: ONNX's number of each input's element type; 0 where the file does not say.
    types: tuple[_Int, ...] = ()

    def has(self, name: str) -> bool:
        """Whether the node sets the attribute."""
        return name in self.attributes

    def int(self, name: str, default: _Int = 0) -> _Int:
        """An integer attribute."""
        found: _Int = self.attributes.get(name, default)
        return found

    def float(self, name: str, default: _Float = 0.0) -> _Float:
        """A float attribute, of single precision."""
        found: _Float = self.attributes.get(name, default)
        return found

    def string(self, name: str, default: str = "") -> str:
        """A text attribute."""
        found: str = self.attributes.get(name, default)
        return found

    def ints(self, name: str, default: _Ints = ()) -> _Ints:
        """A list of integers."""
        found: _Ints = self.attributes.get(name, default)
        return found

    def floats(self, name: str, default: _Floats = ()) -> _Floats:
        """A list of floats."""
        found: _Floats = self.attributes.get(name, default)
        return found

    def strings(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """A list of texts."""
        found: tuple[str, ...] = self.attributes.get(name, default)
        return found

    def tensor(self, name: str) -> Tensor | None:
        """A tensor attribute on the device, or None."""
        found: Tensor | None = self.attributes.get(name)
        return found

    def graph(self, name: str) -> Body:
        """A body as a function from its inputs to a tuple of its outputs."""
        return self.bodies[name]

    @property
    def device(self) -> torch.device:
        """Where tensors are made."""
        return self.mode.device

    @property
    def training(self) -> bool:
        """Whether batch norm uses each batch's own statistics."""
        return self.mode.batch_norm_training

    def dtype(self, code: _Int) -> torch.dtype:
        """The torch type in which values of an ONNX element type are held.

        InvalidRecipeError for those that torch has none for: texts, 4-bit floats.
        """
        if code not in TORCH_TYPES:
            raise InvalidRecipeError(f"torch cannot hold what {self.operator} {self.name!r} makes")
        return self.mode.computed(TORCH_TYPES[code])

    def ints_of(self, value: Value) -> _Ints:
        """Integers of a value, on the host: free for `Sizes`, a wait for the device for tensors."""
        if isinstance(value, Sizes):
            return value.values
        if isinstance(value, Tensor):
            return tuple(value.reshape(-1).tolist())
        raise TypeError(f"{self.operator} has no integers where it needs them")

    def int_of(self, value: Value) -> _Int:
        """The one integer of a value."""
        return self.ints_of(value)[0]

    def floats_of(self, value: Value) -> _Floats:
        """Floats of a value, on the host: free for `Sizes`, a wait for the device for tensors."""
        if isinstance(value, Sizes):
            return tuple(value.values)
        return tuple(self.tensor_of(value).detach().reshape(-1).tolist())

    def tensor_of(self, value: Value) -> Tensor:
        """The value as a tensor on the device."""
        if isinstance(value, Sizes):
            return value.tensor(self.device)
        if isinstance(value, Tensor):
            return value
        raise TypeError(f"{self.operator} has no tensor where it needs one")
