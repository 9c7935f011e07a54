"""The method catalogue: the engine's registry written to `catalogue.json`, read by API and client."""

from functools import cache
from pathlib import Path
from typing import Any

from api_schemas.base import Answer

CATALOGUE_PATH = Path(__file__).with_name("catalogue.json")


class Requirements(Answer):
    """What a part cannot do without. `granularities` null means any; `targets` null means any."""

    data: bool = False
    labels: bool = False
    granularities: list[str] | None = None
    targets: list[str] | None = None
    #: The part itself says how much goes (2:4 is a half); a target may be left out.
    target_optional: bool = False


class MethodInfo(Answer):
    """One part: its docstring, its parameters as JSON Schema, what it needs."""

    axis: str
    name: str
    description: str
    source: str | None = None
    parameters: dict[str, Any]
    requires: Requirements = Requirements()


class PresetInfo(Answer):
    """A named recipe."""

    name: str
    description: str
    recipe: dict[str, Any]


class Catalogue(Answer):
    """Everything a recipe may name."""

    methods: list[MethodInfo]
    presets: list[PresetInfo]

    def part(self, axis: str, name: str) -> MethodInfo | None:
        """The part of that axis and name, if there is one."""
        return next((m for m in self.methods if m.axis == axis and m.name == name), None)

    def preset_axes(self) -> dict[str, dict[str, Any]]:
        """Presets in the form that `recipe.resolve` takes."""
        return {preset.name: preset.recipe for preset in self.presets}


@cache
def load_catalogue() -> Catalogue:
    """The committed catalogue."""
    return Catalogue.model_validate_json(CATALOGUE_PATH.read_bytes())


class MethodList(Answer):
    """``GET /v1/methods``."""

    items: list[MethodInfo]


class PresetList(Answer):
    """``GET /v1/presets``."""

    items: list[PresetInfo]
