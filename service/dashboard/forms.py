"""The upload form's text fields as job options."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from api_schemas.errors import plain_message
from api_schemas.jobs import JobOptions
from service.errors import InvalidRequestError
from service.json_values import refuse_unstorable


def read_options(fields: Mapping[str, str]) -> JobOptions:
    """Preset, percentage, shapes and globs as typed into the form. Raises `InvalidRequestError`."""
    recipe: dict[str, Any] = {"exclude": fields.get("exclude", "").split()}
    if fields.get("preset"):
        recipe["preset"] = fields["preset"]
    if fields.get("sparsity", "").strip():
        recipe["target"] = {"sparsity": _share(fields["sparsity"])}
    document = {"recipe": recipe, "inputs": _shapes(fields.get("inputs", ""))}
    refuse_unstorable(document)
    try:
        return JobOptions.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = " ".join(str(step) for step in first["loc"])
        raise InvalidRequestError(f"{where}: {plain_message(first)}") from error


def _share(percent: str) -> float:
    try:
        return float(percent) / 100
    except ValueError as error:
        raise InvalidRequestError("The share of weights to remove is not a number.") from error


def _shapes(text: str) -> dict[str, list[int]]:
    """Lines or words of the form ``x=1,3,32,32``."""
    shapes: dict[str, list[int]] = {}
    for word in text.split():
        name, equals, sizes = word.rpartition("=")
        try:
            shapes[name] = [int(size) for size in sizes.split(",")]
        except ValueError:
            equals = ""
        if not equals or not name:
            raise InvalidRequestError(f"{word[:100]!r} is not an input shape; write x=1,3,32,32.")
    return shapes
