"""A recipe from a file and options: ``--recipe``, ``--preset``, ``--sparsity``, ``--set``, ``--layer`` …"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from api_schemas.recipe import RecipeRequest
from client.cli.exits import UsageError


@final
@dataclass(frozen=True)
class RecipeOptions:
    """The options as given; each one goes over what the file says."""

    file: Path | None = None
    preset: str | None = None
    sparsity: float | None = None
    sets: Sequence[str] = ()
    exclude: Sequence[str] = ()
    layers: Sequence[str] = ()
    seed: int | None = None


def build_recipe(options: RecipeOptions) -> RecipeRequest:
    """The recipe to send. Raises `UsageError`, or pydantic's `ValidationError` where it fits no schema."""
    recipe = _read(options.file) if options.file else {}
    if options.preset is not None:
        recipe["preset"] = options.preset
    if options.sparsity is not None:
        recipe["target"] = {"sparsity": options.sparsity}
    if options.seed is not None:
        recipe["seed"] = options.seed
    if options.exclude:
        recipe["exclude"] = [*recipe.get("exclude", []), *options.exclude]
    for text in options.layers:
        name, sparsity = _layer(text)
        recipe.setdefault("layers", {})[name] = {"sparsity": sparsity}
    for text in options.sets:
        _set(recipe, text)
    return RecipeRequest.model_validate(recipe)


def _read(path: Path) -> dict[str, Any]:
    try:
        recipe = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise UsageError(f"{path} is not a JSON recipe: {error}") from error
    if not isinstance(recipe, dict):
        raise UsageError(f"{path} is not a JSON recipe: it holds no object")
    return recipe


def _layer(text: str) -> tuple[str, float]:
    name, separator, value = text.rpartition("=")
    try:
        if separator and name:
            return name, float(value)
    except ValueError:
        pass
    raise UsageError(f"not a layer's sparsity: {text!r}", hint="write --layer conv1=0.5")


def _set(recipe: dict[str, Any], text: str) -> None:
    """Put one value at a dotted path; what reads as JSON is JSON, the rest is text."""
    path, separator, raw = text.partition("=")
    steps = path.split(".")
    if not separator or not all(steps):
        raise UsageError(f"not a setting: {text!r}", hint="write --set criterion.name=magnitude")
    try:
        value = json.loads(raw)
    except ValueError:
        value = raw
    place = recipe
    for step in steps[:-1]:
        place = place.setdefault(step, {})
        if not isinstance(place, dict):
            raise UsageError(f"{text!r} goes into {step!r}, which is not an object")
    place[steps[-1]] = value
