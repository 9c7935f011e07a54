"""``--input``: shapes, dtypes and plain numbers of a model's inputs as typed on a command line."""

from collections.abc import Sequence
from typing import Any

from client.cli.exits import UsageError

_HINT = (
    "x=1,3,32,32 is a shape, x=1,77:int64 one with a dtype, x=16, has one dimension, rate=16000 is a number"
)


def parse_inputs(texts: Sequence[str]) -> dict[str, Any]:
    """The `inputs` of a request. Raises `UsageError`.

    ``x=1,3,32,32`` is a shape, ``x=1,77:int64`` a shape with its dtype, ``x=16,`` a shape of one
    dimension, and ``rate=16000``, ``scale=0.5``, ``flag=true`` are values.
    """
    return dict(_parse(text) for text in texts)


def _parse(text: str) -> tuple[str, Any]:
    name, separator, value = text.rpartition("=")
    if not separator or not name:
        raise UsageError(f"not an input: {text!r}", hint=_HINT)
    shape, colon, dtype = value.partition(":")
    if colon:
        return name, {"shape": _shape(text, shape), "dtype": dtype}
    if "," in value:
        return name, _shape(text, value)
    return name, {"value": _number(text, value)}


def _shape(text: str, value: str) -> list[int]:
    sizes = value.removesuffix(",")
    try:
        shape = [int(size) for size in sizes.split(",")] if sizes else []
    except ValueError as error:
        raise UsageError(f"not a shape: {text!r}", hint=_HINT) from error
    if any(size < 1 for size in shape):
        raise UsageError(f"every dimension must be at least 1: {text!r}", hint=_HINT)
    return shape


def _number(text: str, value: str) -> int | float | bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    raise UsageError(f"neither a shape nor a number: {text!r}", hint=_HINT)
