"""Writes docs/methods.md from the committed catalogue: `python -m docs.methods [--check]`."""

import json
import sys
from pathlib import Path
from typing import Any

from api_schemas.catalogue import Catalogue, MethodInfo, PresetInfo, load_catalogue
from api_schemas.recipe import AXES, DEFAULT_PARTS

PAGE = Path(__file__).with_name("methods.md")

_HEAD = """# Methods

Written by `make catalogue` from the parts' own descriptions; do not edit.

A method is a composition, `criterion × granularity × allocation × schedule × apply × recovery`. A recipe
names a preset, or the parts, or a preset with parts that replace its own. The same list is served by
`GET /v1/methods` and `GET /v1/presets`, and printed by `lookahead methods` and `lookahead presets`.
"""
_QUESTIONS = {
    "criterion": "what is a unit worth",
    "granularity": "what is a unit",
    "allocation": "how much goes, and from where",
    "schedule": "when",
    "apply": "as zeros, or out of the file",
    "recovery": "what heals it",
}


def page(catalogue: Catalogue) -> str:
    """The whole page."""
    parts = [_axis(axis, [m for m in catalogue.methods if m.axis == axis]) for axis in AXES]
    presets = "\n".join(_preset(preset) for preset in catalogue.presets)
    return "\n".join([_HEAD, "## Presets\n", presets, *parts])


def _preset(preset: PresetInfo) -> str:
    chosen = [f"{axis} `{spec['name']}`" for axis, spec in preset.recipe.items() if _differs(axis, spec)]
    makes = f" ({', '.join(chosen)})" if chosen else ""
    return f"* **`{preset.name}`**: {_flat(preset.description)}{makes}"


def _differs(axis: str, spec: Any) -> bool:
    return axis in DEFAULT_PARTS and (spec["name"] != DEFAULT_PARTS[axis] or len(spec) > 1)


def _axis(axis: str, methods: list[MethodInfo]) -> str:
    described = "\n".join(_method(method) for method in methods)
    return f"\n## {axis}: {_QUESTIONS[axis]}\n\n{described}"


def _method(method: MethodInfo) -> str:
    default = " (default)" if DEFAULT_PARTS[method.axis] == method.name else ""
    source = f" Source: {method.source}." if method.source else ""
    lines = [f"### `{method.name}`{default}\n", f"{_flat(method.description)}{source}\n"]
    lines += [_needs(method)] if _needs(method) else []
    lines += [_parameter(name, schema) for name, schema in method.parameters.get("properties", {}).items()]
    return "\n".join(lines) + "\n"


def _needs(method: MethodInfo) -> str:
    needs = method.requires
    words = ["needs data" if needs.data else "", "needs labels" if needs.labels else ""]
    if needs.granularities is not None:
        words.append("works with granularity " + ", ".join(f"`{name}`" for name in needs.granularities))
    if needs.targets is not None:
        words.append("takes a target in " + ", ".join(needs.targets) if needs.targets else "takes no target")
    said = "; ".join(word for word in words if word)
    return f"{said[:1].upper()}{said[1:]}.\n" if said else ""


def _parameter(name: str, schema: dict[str, Any]) -> str:
    default = f", default `{json.dumps(schema['default'])}`" if "default" in schema else ""
    return f"* `{name}`{default}: {_flat(schema.get('description', ''))}"


def _flat(text: str) -> str:
    """One paragraph; a description may break lines as code does."""
    return " ".join(text.split())


def main() -> int:
    """Write the page, or with --check tell whether it is fresh."""
    text = page(load_catalogue())
    if "--check" in sys.argv[1:]:
        fresh = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        if not fresh:
            sys.stderr.write("docs/methods.md is stale: run `make catalogue`\n")
        return 0 if fresh else 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
