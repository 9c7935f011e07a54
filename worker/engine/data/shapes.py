"""What is known of the inputs of a model: the file's own word, completed by the shapes a user gave."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from api_schemas.jobs import InputSpec, InputSpecs
from api_schemas.models import TensorInfo
from worker.engine.errors import NeedsInputsError

Dimension = int | str | None


@final
@dataclass(frozen=True)
class InputShape:
    """One input. `shape` is the file's, `given` the user's; `value` is what a plain number input gets."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...] | None
    given: tuple[int, ...] | None = None
    value: float | bool | None = None

    @property
    def untyped(self) -> bool:
        """Whether the file does not say which numbers the input takes."""
        return self.dtype in ("", "unknown")

    @property
    def known(self) -> tuple[Dimension, ...] | None:
        """The shape as far as it is known for data: the user's row dimension binds no one."""
        if self.given is None:
            return self.shape
        if self.shape is None:
            return (None, *self.given[1:])
        mixed = zip(self.shape, self.given, strict=True)
        own = [mine if isinstance(mine, int) else yours for mine, yours in mixed]
        return (self.shape[0], *own[1:]) if own else ()


def input_shapes(inputs: Sequence[TensorInfo], given: InputSpecs | None = None) -> tuple[InputShape, ...]:
    """The inputs with what the user gave laid over. Raises `NeedsInputsError` when the two contradict."""
    given = given or {}
    _check_names(inputs, given)
    return tuple(_completed(info, given.get(info.name)) for info in inputs)


def _check_names(inputs: Sequence[TensorInfo], given: Mapping[str, object]) -> None:
    """What has a value and no shape may be an argument of code that was given that value for good."""
    names = {info.name for info in inputs}
    unknown = [name for name, spec in given.items() if name not in names and not _is_fixed(spec)]
    if unknown:
        raise NeedsInputsError(
            f"the model has no input {unknown[0][:80]!r}; it has {', '.join(sorted(names))[:300]}"
        )


def _is_fixed(spec: object) -> bool:
    return isinstance(spec, InputSpec) and spec.value is not None and spec.shape is None


def _completed(info: TensorInfo, given: Sequence[int] | InputSpec | None) -> InputShape:
    own = InputShape(info.name, info.dtype, tuple(info.shape) if info.shape is not None else None)
    if given is None:
        return own
    if not isinstance(given, InputSpec):
        return _with_shape(own, given)
    own = replace(own, dtype=given.dtype or own.dtype, value=given.value)
    return own if given.shape is None else _with_shape(own, given.shape)


def _with_shape(own: InputShape, given: Sequence[int]) -> InputShape:
    fits = own.shape is None or (
        len(own.shape) == len(given)
        and all(mine == yours for mine, yours in zip(own.shape, given, strict=True) if isinstance(mine, int))
    )
    if not fits:
        raise NeedsInputsError(
            f"input {own.name[:80]!r} has shape {spelled(own.shape)}; the shape given is {list(given)}"
        )
    return replace(own, given=tuple(given))


def spelled(shape: Sequence[Dimension] | None) -> str:
    """A shape for a message: [batch, 3, ?]."""
    if shape is None:
        return "unknown"
    return f"[{', '.join('?' if size is None else str(size)[:40] for size in shape)}]"
