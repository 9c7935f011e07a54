"""What a user asks for (`RecipeRequest`) and what it comes to (`Recipe`).

A method is a composition: criterion × granularity × allocation × schedule × apply × recovery.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from api_schemas.base import Answer, Request

Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Points = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Sparsity = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]

AXES = ("criterion", "granularity", "allocation", "schedule", "apply", "recovery")


class PartSpec(Request):
    """A part by name, with its parameters beside the name: ``{"name": "lookahead", "squared": false}``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]

    @property
    def params(self) -> dict[str, Any]:
        """The parameters without the name."""
        return dict(self.model_extra or {})


class Target(Request):
    """The goal, in exactly one unit.

    `sparsity` is the share of prunable weights removed; the next four are a share of the original
    that may be left; `accuracy_drop` is in points of the metric and needs labelled data.
    """

    sparsity: Sparsity | None = None
    parameters: Ratio | None = None
    macs: Ratio | None = None
    size_bytes: Ratio | None = None
    latency: Ratio | None = None
    accuracy_drop: Points | None = None

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:  # an explicit null is not a goal: a dumped target must read back as itself
            raise ValueError(f"a target is exactly one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def unit(self) -> str:
        """The name of the unit that was given."""
        return next(name for name in type(self).model_fields if getattr(self, name) is not None)


class Sweep(Request):
    """Several targets in one job. Each is carried out on the upload and measured; one file is handed out.

    That is the file with the fewest numbers other than zero; with `accuracy_drop`, which needs labelled data,
    among those that lost no more than so many points.
    """

    targets: Annotated[list[Target], Field(min_length=2, max_length=20)]
    accuracy_drop: Points | None = None


class LayerOverride(Request):
    """What one layer gets instead of what the allocation would give it."""

    sparsity: Ratio


class OutputFormat(StrEnum):
    """Format of the downloaded file."""

    SAME = "same"
    ONNX = "onnx"


class OutputSpec(Request):
    """How the result is written."""

    format: OutputFormat = OutputFormat.SAME


Globs = Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=1000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class RecipeRequest(Request):
    """A preset with overrides, or the parts spelled out. Parts given beside a preset replace the preset's."""

    preset: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    criterion: PartSpec | None = None
    granularity: PartSpec | None = None
    allocation: PartSpec | None = None
    schedule: PartSpec | None = None
    apply: PartSpec | None = None
    recovery: PartSpec | None = None
    target: Target | None = None
    sweep: Sweep | None = None
    exclude: Globs = []
    layers: Annotated[dict[str, LayerOverride], Field(max_length=100_000)] = {}
    seed: Seed = 0
    output: OutputSpec = OutputSpec()

    @model_validator(mode="after")
    def _target_or_sweep(self) -> Self:
        if self.target is not None and self.sweep is not None:
            raise ValueError("a recipe has a target or a sweep over several, not both")
        return self


class Recipe(Answer):
    """Every choice made: what ran, or will. Posted back as a recipe it means the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str | None = None
    criterion: PartSpec
    granularity: PartSpec
    allocation: PartSpec
    schedule: PartSpec
    apply: PartSpec
    recovery: PartSpec
    target: Target | None = None
    sweep: Sweep | None = None
    exclude: list[str] = []
    layers: dict[str, LayerOverride] = {}
    seed: int = 0
    output: OutputSpec = OutputSpec()


DEFAULT_PARTS: dict[str, str] = {
    "criterion": "lookahead",
    "granularity": "element",
    "allocation": "uniform",
    "schedule": "one_shot",
    "apply": "mask",
    "recovery": "auto",
}


#: Criterion and granularity that are cut in ten steps, scored anew each time, from this sparsity on: there
#: `benchmarks.mnist_methods` and `benchmarks.rescored_mnist` find scores of the whole network much worse.
_RESCORED, _HIGH = ("lookahead", "element"), 0.98
#: Granularities whose units leave the file unless the recipe says otherwise.
_SHRINKING = ("channel", "head")


def resolve(request: RecipeRequest, presets: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """Lay the request over its preset, and the preset over the defaults.

    `presets` maps a preset's name to its axes. Raises `KeyError` with the name of an unknown preset.
    """
    preset = presets[request.preset] if request.preset is not None else {}
    parts: dict[str, PartSpec] = {}
    for axis in AXES:
        given = getattr(request, axis)
        spec = preset.get(axis) or _default(axis, parts, request.target)
        parts[axis] = given if given is not None else PartSpec.model_validate(spec)
    kept = request.model_dump(
        include={"preset", "target", "sweep", "exclude", "layers", "seed", "output"}, exclude_none=True
    )
    return Recipe.model_validate({**kept, **parts})


def _default(axis: str, parts: Mapping[str, PartSpec], target: Target | None) -> dict[str, Any]:
    """The part that stands where neither request nor preset names one; axes are decided in order."""
    if axis == "apply" and parts["granularity"].name in _SHRINKING:
        return {"name": "shrink"}
    if (
        axis == "schedule"
        and _high(target)
        and (parts["criterion"].name, parts["granularity"].name) == _RESCORED
    ):
        return {"name": "rescored", "steps": 10}
    return {"name": DEFAULT_PARTS[axis]}


def _high(target: Target | None) -> bool:
    return target is not None and target.sparsity is not None and target.sparsity >= _HIGH
