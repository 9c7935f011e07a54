"""`lookahead methods | presets`: what a recipe may name."""

from typing import Annotated

import typer

from api_schemas.catalogue import MethodInfo, MethodList, PresetList
from api_schemas.recipe import AXES
from client.cli import options, screen
from client.cli.exits import UsageError
from client.sync_client import Lookahead


def methods(
    axis: Annotated[str | None, typer.Argument(help="Only this axis: criterion, granularity, …")] = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List the parts of which recipes are made, with their parameters."""
    if axis is not None and axis not in AXES:
        raise UsageError(f"no such axis: {axis}", hint=f"one of {', '.join(AXES)}")
    with Lookahead(server) as client:
        found = [method for method in client.methods() if axis in (None, method.axis)]
    if json:
        screen.write_json(MethodList(items=found))
        return
    rows = [
        (part.axis, part.name, ", ".join(_parameters(part)), _summary(part.description)) for part in found
    ]
    screen.table(("axis", "name", "parameters", "what it does"), rows)


def presets(server: options.Server = None, json: options.Json = False) -> None:
    """List the named recipes."""
    with Lookahead(server) as client:
        found = client.presets()
    if json:
        screen.write_json(PresetList(items=found))
        return
    rows = [
        (
            preset.name,
            " × ".join(str(preset.recipe[axis]["name"]) for axis in AXES if axis in preset.recipe),
            _summary(preset.description),
        )
        for preset in found
    ]
    screen.table(("preset", "recipe", "what it is"), rows)


def _parameters(part: MethodInfo) -> list[str]:
    return [name for name in part.parameters.get("properties", {}) if name != "name"]


def _summary(description: str) -> str:
    return description.strip().partition("\n\n")[0].replace("\n", " ")
