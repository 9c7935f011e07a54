"""The formats known, by kind. A format is one module in this package whose class carries `@register`."""

from typing import TypeVar

from api_schemas.models import ModelFormat
from worker.engine.formats.base import Format

FORMATS: dict[ModelFormat, Format] = {}

_F = TypeVar("_F", bound=type[Format])


def register(format_class: _F) -> _F:
    """Class decorator: make the format known under its `format`. A kind can be taken only once."""
    kind = format_class.format
    if kind in FORMATS:
        raise ValueError(f"two classes read {kind}")
    FORMATS[kind] = format_class()
    return format_class
