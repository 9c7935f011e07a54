"""Which function computes an operator: by domain, name and the opset that it appeared or changed in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, final

#: Older opsets broadcast by attributes.
FIRST_OPSET = 7
_Function = TypeVar("_Function", bound=Callable[..., Any])


@final
@dataclass(frozen=True)
class Implementation:
    """A function of a `Call` and the operator's inputs; None stands for an input left out.

    It gives one value, or a tuple where the operator has several outputs. With `sizes` it takes host integers
    as they are, with `scalars` fixed single floats too, with `floats` fixed short lists of them as well; else
    all arrive as tensors.
    """

    function: Callable[..., Any]
    since: int
    sizes: bool
    scalars: bool = False
    floats: bool = False


_IMPLEMENTATIONS: dict[tuple[str, str], list[Implementation]] = {}


def operator(
    *names: str,
    since: int | None = None,
    domain: str = "",
    sizes: bool = False,
    scalars: bool = False,
    floats: bool = False,
) -> Callable[[_Function], _Function]:
    """Declare what computes these operators from opset `since` of their domain on, up to the next declared.

    Without `since` from the first that is followed: 7 of ONNX itself, 1 of any other domain.
    """
    start = since if since is not None else 1 if domain else FIRST_OPSET

    def declare(function: _Function) -> _Function:
        for name in names:
            known = _IMPLEMENTATIONS.setdefault((domain, name), [])
            if any(other.since == start for other in known):
                raise TypeError(f"two implementations of {name} since {start}")
            known.append(
                Implementation(function, start, sizes or scalars or floats, scalars or floats, floats)
            )
            known.sort(key=lambda implementation: implementation.since)
        return function

    return declare


def find(domain: str, name: str, opset: int) -> Implementation | None:
    """What computes an operator at an opset, or None where nothing does."""
    fitting = [known for known in _IMPLEMENTATIONS.get((domain, name), ()) if known.since <= opset]
    return fitting[-1] if fitting else None


def covered() -> dict[tuple[str, str], tuple[int, ...]]:
    """Operators by domain and name, with the opsets at which an implementation starts."""
    return {key: tuple(one.since for one in known) for key, known in sorted(_IMPLEMENTATIONS.items())}
