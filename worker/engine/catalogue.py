"""The registry and the presets as `api_schemas.catalogue.Catalogue`: `python -m worker.engine catalogue`."""

from importlib.resources import files
from typing import Any

import yaml

from api_schemas.catalogue import Catalogue, PresetInfo
from worker.engine import planning as _planning  # noqa: F401  (registers every part)
from worker.engine import registry


def presets() -> list[PresetInfo]:
    """Every preset: one YAML file in `presets/`, its name the file's."""
    found = sorted(
        (f for f in files("worker.engine.presets").iterdir() if f.name.endswith(".yaml")), key=_name
    )
    return [_preset(_name(file), yaml.safe_load(file.read_text())) for file in found]


def _name(file: Any) -> str:
    return str(file.name).removesuffix(".yaml")


def _preset(name: str, content: dict[str, Any]) -> PresetInfo:
    description = content.pop("description")
    return PresetInfo(name=name, description=description, recipe=content)


def catalogue() -> Catalogue:
    """Everything a recipe may name."""
    return Catalogue(methods=[registry.describe(part) for part in registry.parts()], presets=presets())


def catalogue_json() -> str:
    """The text of `api_schemas/catalogue.json`."""
    return catalogue().model_dump_json(indent=2) + "\n"
