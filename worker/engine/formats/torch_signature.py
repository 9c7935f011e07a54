"""What a TorchScript module's forward takes and gives: its arguments, example inputs, arrays and tensors."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch

from api_schemas.jobs import InputSpec, InputSpecs
from api_schemas.models import TensorInfo
from worker.engine.errors import (
    InvalidModelError,
    InvalidRecipeError,
    ModelNotRunnableError,
    NeedsInputsError,
)
from worker.engine.formats.base import Array

_SCALARS: dict[str, type] = {"int": int, "float": float, "bool": bool}
_SCALAR_DTYPES = {"int": "int64", "float": "float64", "bool": "bool"}
_GUESSES = (torch.float32, torch.int64)
_MOST_GUESSES = 4
#: Whole numbers to try: indices begin with 0, lengths with 1.
_WHOLE = (0, 1)


@dataclass(frozen=True)
class Argument:
    """One argument of forward: its TorchScript type, what was said of it, its default."""

    name: str
    kind: str
    spec: InputSpec | None
    optional: bool
    default: Any = None

    @property
    def is_tensor(self) -> bool:
        """True for a tensor."""
        return self.kind == "Tensor"

    @property
    def fed(self) -> bool:
        """True when each run must be given a value: none was fixed beforehand and there is no default."""
        if self.is_scalar:
            return not self.optional and (self.spec is None or self.spec.value is None)
        return not self.optional or (self.is_tensor and self.has_shape)

    @property
    def has_shape(self) -> bool:
        """True when a shape was given for it."""
        return self.spec is not None and self.spec.shape is not None

    @property
    def is_scalar(self) -> bool:
        """True for a plain number."""
        return self.kind in _SCALARS

    @property
    def known(self) -> bool:
        """True when an example can be made up."""
        return not self.fed or (self.is_tensor and self.has_shape)

    @property
    def askable(self) -> bool:
        """True when a shape or a number is all there is to know of it; lists and such cannot be given."""
        return self.is_tensor or self.is_scalar

    def info(self, dtype: torch.dtype | None) -> TensorInfo:
        """How the argument is shown as a model input."""
        shape: list[int | str | None] | None = None
        if self.spec is not None and self.spec.shape is not None:
            shape = list(self.spec.shape)
        if self.is_scalar:
            return TensorInfo(name=self.name, dtype=_SCALAR_DTYPES[self.kind], shape=[])
        return TensorInfo(
            name=self.name, dtype="unknown" if dtype is None else dtype_name(dtype), shape=shape
        )


def arguments_of(module: torch.jit.ScriptModule, inputs: InputSpecs) -> tuple[Argument, ...]:
    """Arguments of forward without self. Raises `InvalidModelError` when there is no forward."""
    try:
        schema = getattr(module.forward, "schema")  # noqa: B009 - a callable to type checkers
    except (AttributeError, RuntimeError):
        raise InvalidModelError("the TorchScript module has no forward method") from None
    names = [argument.name for argument in schema.arguments[1:]]
    unknown = [name for name in inputs if name not in names]
    if unknown:
        has = ", ".join(names)[:300] or "none"
        raise NeedsInputsError(f"the model has no input {unknown[0][:80]!r}; it has {has}")
    return tuple(_argument(argument, inputs) for argument in schema.arguments[1:])


def _argument(argument: Any, inputs: InputSpecs) -> Argument:
    given = inputs.get(argument.name)
    spec = InputSpec(shape=given) if isinstance(given, list) else given
    kind = str(argument.type)
    optional = argument.has_default_value() or kind.startswith("Optional[")
    if kind.startswith("Optional["):
        kind = kind.removeprefix("Optional[").removesuffix("]")
    default = argument.default_value if argument.has_default_value() else None
    return Argument(argument.name, kind, spec, optional, default)


def examples(arguments: Sequence[Argument]) -> Iterator[tuple[Any, ...]]:
    """Example values for all arguments, one tuple for each guess of the dtypes that were not given."""
    open_ones = [a for a in arguments if a.fed and (a.spec is None or a.spec.dtype is None)]
    guesses: Iterator[tuple[torch.dtype, ...]] = itertools.product(_GUESSES, repeat=len(open_ones))
    if len(open_ones) > _MOST_GUESSES:
        guesses = iter([(dtype,) * len(open_ones) for dtype in _GUESSES])
    for guess, whole in itertools.product(list(guesses), _WHOLE):
        chosen = dict(zip((a.name for a in open_ones), guess, strict=True))
        yield tuple(_example(argument, chosen.get(argument.name), whole) for argument in arguments)


def _example(argument: Argument, guess: torch.dtype | None, whole: int = 0) -> Any:
    if not argument.fed:
        value = argument.spec.value if argument.spec is not None else None
        return argument.default if value is None else _SCALARS.get(argument.kind, type(value))(value)
    spec = argument.spec
    if spec is None or spec.shape is None:
        raise ValueError(f"nothing is known of {argument.name}")
    dtype = guess if guess is not None else torch_dtype(spec.dtype or "float32")
    if not dtype.is_floating_point:
        return torch.full(spec.shape, whole, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    return torch.rand(spec.shape, generator=generator).to(dtype)


def torch_dtype(name: str) -> torch.dtype:
    """torch's dtype of that name. Raises `InvalidRecipeError` for an unknown one."""
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise InvalidRecipeError(f"{name[:16]!r} is no dtype of an input")
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def to_value(argument: Argument, feeds: Mapping[str, Array], device: torch.device) -> Any:
    """What forward gets for an argument: the fed array, else the fixed value, else None for the default."""
    if argument.name in feeds:
        array = feeds[argument.name]
        if argument.is_scalar:
            return _SCALARS[argument.kind](np.asarray(array).item())
        return to_tensor(array).to(device)
    if argument.fed:
        raise ModelNotRunnableError(f"no data for input {argument.name!r}")
    return _example(argument, None)


def call_arguments(
    arguments: Sequence[Argument], feeds: Mapping[str, Array], device: torch.device
) -> dict[str, Any]:
    """Keyword arguments of one call of forward; defaults are left out."""
    values = {argument.name: to_value(argument, feeds, device) for argument in arguments}
    return {name: value for name, value in values.items() if value is not None}


def to_tensor(array: Array) -> torch.Tensor:
    """A torch tensor with a copy of the array."""
    array = np.array(array, order="C")
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_array(tensor: torch.Tensor) -> Array:
    """A numpy array with the tensor's values in its dtype."""
    tensor = tensor.detach().cpu()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.resolve_conj().resolve_neg().numpy()


def flattened(output: Any) -> list[Array]:
    """All tensors and numbers of an output in order, as arrays."""
    if isinstance(output, torch.Tensor):
        return [to_array(output)]
    if isinstance(output, bool | int | float):
        return [np.asarray(output)]
    if isinstance(output, dict):
        return [array for value in output.values() for array in flattened(value)]
    if isinstance(output, list | tuple):
        return [array for value in output for array in flattened(value)]
    return []
