"""A small catalogue: the axes of the real one, with parts that need data, labels or a granularity."""

from typing import Any

from api_schemas.catalogue import Catalogue, MethodInfo, PresetInfo, Requirements


def part(axis: str, name: str, parameters: dict[str, Any] | None = None, **needs: Any) -> MethodInfo:
    schema = {"type": "object", "additionalProperties": False, "properties": parameters or {}}
    return MethodInfo(
        axis=axis,
        name=name,
        description=f"The {axis} {name}.",
        parameters=schema,
        requires=Requirements(**needs),
    )


def small_catalogue() -> Catalogue:
    return Catalogue(
        methods=[
            part("criterion", "magnitude"),
            part("criterion", "lookahead", {"squared": {"type": "boolean", "default": True}}),
            part("criterion", "wanda", data=True),
            part("criterion", "taylor", data=True, labels=True),
            part("granularity", "element"),
            part("granularity", "channel"),
            part("allocation", "uniform"),
            part("allocation", "given"),
            part("allocation", "global", {"normalised": {"type": "boolean"}}, granularities=["element"]),
            part("allocation", "search", targets=["latency"]),
            part("schedule", "one_shot"),
            part("granularity", "n:m", target_optional=True),
            part("apply", "mask"),
            part("apply", "shrink", granularities=["channel"]),
            part("recovery", "none"),
            part("recovery", "auto"),
        ],
        presets=[
            PresetInfo(
                name="magnitude", description="Smallest first.", recipe={"criterion": {"name": "magnitude"}}
            ),
            PresetInfo(
                name="lookahead", description="Looks ahead.", recipe={"criterion": {"name": "lookahead"}}
            ),
        ],
    )
