"""What can be said of a job before it is queued: the recipe against the catalogue, the model and the data.

The child checks again with the parts themselves; this is to answer at once what needs no worker.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, final

from jsonschema import Draft202012Validator

from api_schemas.catalogue import Catalogue, MethodInfo
from api_schemas.errors import FieldError
from api_schemas.jobs import InputSpecs, JobOptions
from api_schemas.models import Inspection, ModelFormat
from api_schemas.recipe import AXES, OutputFormat, PartSpec, Recipe, RecipeRequest, Target, resolve
from service.errors import (
    InvalidModelError,
    InvalidRequestError,
    NeedsDatasetError,
    NeedsInputsError,
    NeedsLabelsError,
    RejectedModelError,
)
from service.jobs.data_checks import check_arrays, check_given_shapes, check_rows_to_learn
from service.problems import json_pointer
from store.records import DatasetRecord, ModelRecord

_GIVEN = "given"


@final
@dataclass(frozen=True)
class Files:
    """What the job works on."""

    model: ModelRecord
    dataset: DatasetRecord | None


def resolve_recipe(options: JobOptions, catalogue: Catalogue) -> Recipe:
    """The recipe with every choice made and every default written out. Raises `InvalidRequestError`."""
    recipe = _resolve(_with_output(options), catalogue)
    errors = [error for axis in AXES for error in _part_errors(axis, getattr(recipe, axis), catalogue)]
    if errors:
        raise InvalidRequestError(f"{errors[0].pointer}: {errors[0].message}", errors=errors)
    parts = {axis: _with_defaults(axis, getattr(recipe, axis), catalogue) for axis in AXES}
    return recipe.model_copy(update=parts)


def check_job(recipe: Recipe, inputs: InputSpecs, files: Files, catalogue: Catalogue) -> None:
    """Refuse what cannot work: a senseless composition, missing data, labels or shapes, nothing to prune."""
    _check_target(recipe, catalogue)
    _check_output(recipe, files.model)
    _check_requirements(recipe, files.dataset, catalogue)
    if files.model.inspection_error is not None:
        raise RejectedModelError(files.model.inspection_error)
    if files.model.inspection is not None:
        _check_layers(recipe, files.model.inspection)
        _check_inputs(inputs, files.model.inspection, files.dataset)


def _with_output(options: JobOptions) -> RecipeRequest:
    """`output` may stand beside the recipe or in it; beside it wins."""
    if options.output is None:
        return options.recipe
    return options.recipe.model_copy(update={"output": options.output})


def _resolve(request: RecipeRequest, catalogue: Catalogue) -> Recipe:
    try:
        return resolve(request, catalogue.preset_axes())
    except KeyError as error:
        known = ", ".join(preset.name for preset in catalogue.presets)
        message = f"there is no preset {request.preset!r}; there are {known}"
        raise InvalidRequestError.at("/recipe/preset", message) from error


def _part_errors(axis: str, part: PartSpec, catalogue: Catalogue) -> Iterator[FieldError]:
    method = catalogue.part(axis, part.name)
    if method is None:
        known = ", ".join(found.name for found in catalogue.methods if found.axis == axis)
        message = f"there is no {axis} {part.name!r}; there are {known}"
        yield FieldError(pointer=f"/recipe/{axis}/name", message=message)
        return
    for error in Draft202012Validator(method.parameters).iter_errors(_parameters(method, part)):
        pointer = json_pointer(["recipe", axis, *error.absolute_path])
        yield FieldError(pointer=pointer, message=error.message[:300])


def _parameters(method: MethodInfo, part: PartSpec) -> dict[str, Any]:
    """What the part's schema judges; the name counts only where the schema speaks of it."""
    named = "name" in method.parameters.get("properties", {})
    return part.params | ({"name": part.name} if named else {})


def _with_defaults(axis: str, part: PartSpec, catalogue: Catalogue) -> PartSpec:
    method = catalogue.part(axis, part.name)
    properties = method.parameters.get("properties", {}) if method else {}
    defaults = {name: schema["default"] for name, schema in properties.items() if "default" in schema}
    return PartSpec.model_validate({**defaults, **part.params, "name": part.name})


def _check_target(recipe: Recipe, catalogue: Catalogue) -> None:
    granularity = catalogue.part("granularity", recipe.granularity.name)
    if granularity is not None and granularity.requires.target_optional:
        return
    if recipe.sweep is not None:
        return
    if recipe.target is None and recipe.allocation.name != _GIVEN:
        message = 'say how much to prune, for example {"sparsity": 0.8}'
        raise InvalidRequestError.at("/recipe/target", message)
    if recipe.target is None and not recipe.layers:
        raise InvalidRequestError.at("/recipe/layers", "the allocation `given` needs layers or a target")


def _check_output(recipe: Recipe, model: ModelRecord) -> None:
    if recipe.output.format is OutputFormat.ONNX and model.format is not ModelFormat.ONNX:
        message = f"a file in {model.format.value} comes back in {model.format.value}, never as ONNX"
        hint = "Leave `output` out, or export the model with torch.onnx.export and upload that."
        raise InvalidRequestError.at("/output/format", message, hint=hint)


def _check_requirements(recipe: Recipe, dataset: DatasetRecord | None, catalogue: Catalogue) -> None:
    for axis in AXES:
        method = catalogue.part(axis, getattr(recipe, axis).name)
        if method is not None:
            _check_composition(axis, method, recipe)
            _check_data(f"the {axis} {method.name}", method, dataset)
    if _by_accuracy(recipe) and (dataset is None or not dataset.has_targets):
        raise NeedsLabelsError("A target of `accuracy_drop` needs a dataset with `targets`.")


def _targets(recipe: Recipe) -> list[Target]:
    """What is to be reached: one target, several in a sweep, or none."""
    if recipe.sweep is not None:
        return list(recipe.sweep.targets)
    return [] if recipe.target is None else [recipe.target]


def _by_accuracy(recipe: Recipe) -> bool:
    floor = recipe.sweep is not None and recipe.sweep.accuracy_drop is not None
    return floor or any(target.accuracy_drop is not None for target in _targets(recipe))


def _check_composition(axis: str, method: MethodInfo, recipe: Recipe) -> None:
    needs = method.requires
    granularity = recipe.granularity.name
    if needs.granularities is not None and granularity not in needs.granularities:
        fitting = ", ".join(needs.granularities)
        message = f"{method.name} works with the granularity {fitting}, not with {granularity}"
        raise InvalidRequestError.at(f"/recipe/{axis}", message)
    for target in _targets(recipe):
        if needs.targets is not None and target.unit not in needs.targets:
            fitting = ", ".join(needs.targets)
            message = f"{method.name} works towards {fitting}, not {target.unit}"
            where = "/recipe/target" if recipe.sweep is None else "/recipe/sweep"
            raise InvalidRequestError.at(where, message)


def _check_data(who: str, method: MethodInfo, dataset: DatasetRecord | None) -> None:
    if method.requires.labels and (dataset is None or not dataset.has_targets):
        raise NeedsLabelsError(f"{who} needs a dataset with `targets`.".capitalize())
    if method.requires.data and dataset is None:
        raise NeedsDatasetError(f"{who} looks at data: upload a dataset and name it.".capitalize())
    if method.requires.data and dataset is not None:
        check_rows_to_learn(f"The {who.removeprefix('the ')}", dataset)


def _check_layers(recipe: Recipe, inspection: Inspection) -> None:
    if not any(layer.prunable for layer in inspection.layers):
        reasons = {layer.reason for layer in inspection.layers if layer.reason}
        why = f" ({'; '.join(sorted(reasons)[:3])})" if reasons else ""
        raise InvalidModelError(f"The model holds nothing that can be pruned{why}.")
    names = [name for layer in inspection.layers for name in (layer.name, layer.weight)]
    names += [group.name for group in inspection.groups]
    unknown = [wanted for wanted in recipe.layers if not _names_a_layer(wanted, names)]
    if unknown:
        message = f"the model has no layer {unknown[0][:200]!r}"
        errors = [FieldError(pointer=json_pointer(["recipe", "layers", name]), message="no such layer")
                  for name in unknown[:20]]  # fmt: skip
        hint = f"Its layers are {', '.join(layer.name for layer in inspection.layers[:20])}."
        raise InvalidRequestError(message, hint=hint, errors=errors)


def _names_a_layer(wanted: str, names: list[str]) -> bool:
    return wanted in names or any(fnmatchcase(name, wanted) for name in names)


def _check_inputs(inputs: InputSpecs, inspection: Inspection, dataset: DatasetRecord | None) -> None:
    check_given_shapes(inputs, inspection)
    if dataset is not None:
        check_arrays(inputs, inspection, dataset)
        return
    if inspection.format is not ModelFormat.TORCHSCRIPT:
        return
    missing = [found.name for found in inspection.inputs if found.shape is None and found.name not in inputs]
    if missing:
        example = ", ".join(f'"{name}": [1, 3, 32, 32]' for name in missing[:3])
        raise NeedsInputsError(
            f"The file does not say the shape of {', '.join(missing[:10])}.",
            hint=f'Add "inputs": {{{example}}} with the real shapes, or upload a dataset.',
        )
