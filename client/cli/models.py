"""`lookahead inspect | validate`: what a model holds, and what a recipe would do to it."""

import re
from pathlib import Path
from typing import Annotated

import typer

from api_schemas.jobs import Validation
from api_schemas.models import Model, TensorInfo
from client.cli import options, screen
from client.cli.exits import ExitCode, show_error
from client.cli.inputs import parse_inputs
from client.cli.progress import Reporter, reporter
from client.cli.recipes import RecipeOptions, build_recipe
from client.errors import LookaheadError
from client.sync_client import Lookahead

_MODEL_ID = re.compile(r"^mdl_[0-9a-hjkmnp-tv-z]{26}$")
_DATASET_ID = re.compile(r"^dat_[0-9a-hjkmnp-tv-z]{26}$")
ModelArgument = Annotated[
    str, typer.Argument(metavar="FILE|MODEL", help="A file, or an uploaded model's id.")
]


def inspect(
    model: ModelArgument,
    external_data: options.ExternalData = None,
    timeout: options.Timeout = None,
    server: options.Server = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Show inputs, outputs and layers of a model, and why a layer cannot be pruned."""
    with Lookahead(server) as client, reporter(quiet=quiet) as progress:
        model_id = _model_id(client, model, external_data or [], progress)
        progress.step("inspecting")
        found = client.inspect(model_id, timeout=timeout)
    if json:
        screen.write_json(found)
    else:
        _show_model(found)
    if found.inspection_error:
        error = found.inspection_error
        show_error(LookaheadError(error.message, hint=error.hint, code=error.code.value))
        raise typer.Exit(ExitCode.JOB_FAILED)


def validate(
    model: ModelArgument,
    preset: options.Preset = None,
    sparsity: options.Sparsity = None,
    recipe: options.RecipeFile = None,
    sets: options.Sets = None,
    exclude: options.Exclude = None,
    layers: options.Layers = None,
    seed: options.Seed = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="FILE|DATASET", help="Data, or an uploaded dataset's id.")
    ] = None,
    inputs: options.Inputs = None,
    external_data: options.ExternalData = None,
    server: options.Server = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Show what a recipe would do to a model, without doing it; exit 1 when the job would fail."""
    given = RecipeOptions(recipe, preset, sparsity, sets or [], exclude or [], layers or [], seed)
    asked, shapes = build_recipe(given), parse_inputs(inputs or [])
    with Lookahead(server) as client, reporter(quiet=quiet) as progress:
        model_id = _model_id(client, model, external_data or [], progress)
        dataset_id = _dataset_id(client, data, progress)
        progress.step("validating")
        answer = client.validate(model_id, recipe=asked, dataset_id=dataset_id, inputs=shapes or None)
    if json:
        screen.write_json(answer)
    else:
        _show_plan(answer)
    if not answer.valid:
        if answer.error:
            show_error(
                LookaheadError(answer.error.message, hint=answer.error.hint, code=answer.error.code.value)
            )
        raise typer.Exit(ExitCode.JOB_FAILED)


def _model_id(client: Lookahead, model: str, external: list[Path], progress: Reporter) -> str:
    if _MODEL_ID.match(model):
        return model
    progress.step("uploading")
    return client.upload_model(model, external_data=external, on_bytes=progress.bytes_moved).id


def _dataset_id(client: Lookahead, data: str | None, progress: Reporter) -> str | None:
    if data is None or _DATASET_ID.match(data):
        return data
    progress.step("uploading")
    return client.upload_dataset(data, on_bytes=progress.bytes_moved).id


def _show_model(model: Model) -> None:
    screen.pairs(
        [
            ("model", model.id),
            ("file", model.filename),
            ("format", model.format.value),
            ("opset", model.opset),
            ("parameters", None if model.parameters is None else f"{model.parameters:,}"),
            ("MACs", None if model.macs is None else f"{model.macs:,}"),
            *(("input", _tensor(tensor)) for tensor in model.inputs or []),
            *(("output", _tensor(tensor)) for tensor in model.outputs or []),
        ]
    )
    if model.layers:
        rows = [
            (layer.name, layer.op, _shape(layer.shape), layer.parameters, layer.reason or "yes")
            for layer in model.layers
        ]
        screen.table(("layer", "operator", "shape", "weights", "prunable"), rows, right=(3,))


def _tensor(tensor: TensorInfo) -> str:
    shape = "?" if tensor.shape is None else _shape(["?" if size is None else size for size in tensor.shape])
    return f"{tensor.name} {tensor.dtype} {shape}"


def _shape(sizes: list[int] | list[int | str]) -> str:
    return "×".join(map(str, sizes)) or "scalar"


def _show_plan(answer: Validation) -> None:
    recipe = answer.recipe
    parts = (recipe.criterion, recipe.granularity, recipe.allocation, recipe.schedule, recipe.apply)
    screen.pairs(
        [
            ("recipe", " × ".join(part.name for part in (*parts, recipe.recovery))),
            ("sparsity", None if answer.sparsity is None else f"{answer.sparsity:.2%}"),
            *(("warning", text) for text in answer.warnings),
        ]
    )
    if answer.layers:
        rows = [
            (
                layer.name,
                layer.op,
                _shape(layer.shape),
                layer.parameters,
                "" if layer.sparsity is None else f"{layer.sparsity:.2%}",
            )
            for layer in answer.layers
        ]
        screen.table(("layer", "operator", "shape", "weights", "sparsity"), rows, right=(3, 4))
    if answer.refusals:
        screen.table(("left alone", "because"), [(skip.layer, skip.reason) for skip in answer.refusals])
