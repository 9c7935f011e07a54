"""The engine's own command line: prune, inspect, plan and catalogue, without service or sandbox.

For files that you trust: nothing is confined here.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from api_schemas.catalogue import CATALOGUE_PATH
from api_schemas.errors import ErrorCode, JobError
from api_schemas.jobs import ChildOrder, ChildResult, InputSpecs
from api_schemas.recipe import Recipe, RecipeRequest, resolve
from worker.engine.catalogue import catalogue, catalogue_json
from worker.engine.context import silent
from worker.engine.learning.distributed import World, joined
from worker.engine.orders import run_order


def main(arguments: list[str] | None = None) -> int:
    """0 when done, 1 when the job failed or the catalogue is stale, 2 for a usage error."""
    options = _parser().parse_args(arguments)
    if options.command == "catalogue":
        return _catalogue(check=options.check)
    with joined() as device:
        options.device = options.device or device
        result = _run(options)
        if World.present().first:
            sys.stdout.write(result.model_dump_json(exclude_none=True) + "\n")
    return 0 if result.error is None else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m worker.engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("catalogue", help="write api_schemas/catalogue.json from the registry")
    listing.add_argument("--check", action="store_true", help="only tell whether it is fresh")
    for name in ("prune", "inspect", "plan"):
        command = commands.add_parser(name)
        command.add_argument("file", type=Path)
        command.add_argument("--recipe", default='{"preset": "lookahead", "target": {"sparsity": 0.8}}')
        command.add_argument("--data", type=Path)
        command.add_argument("--inputs", default="{}", help="JSON: input name to shape")
        command.add_argument("--out", type=Path, default=Path("pruned"))
        command.add_argument("--device", default=None)
        command.add_argument("--threads", type=int, default=os.cpu_count() or 1)
        command.add_argument("--json", action="store_true", help="accepted for symmetry: output is JSON")
    return parser


def _catalogue(*, check: bool) -> int:
    text = catalogue_json()
    if check:
        fresh = CATALOGUE_PATH.is_file() and CATALOGUE_PATH.read_text() == text
        sys.stderr.write(
            "the catalogue is fresh\n" if fresh else "the catalogue is stale: run `make catalogue`\n"
        )
        return 0 if fresh else 1
    CATALOGUE_PATH.write_text(text)
    return 0


def _run(options: argparse.Namespace) -> ChildResult:
    try:
        recipe = _recipe(options.recipe) if options.command != "inspect" else None
        inputs = TypeAdapter(InputSpecs).validate_json(options.inputs)
    except (ValidationError, KeyError) as error:
        return ChildResult(error=JobError(code=ErrorCode.INVALID_RECIPE, message=str(error)[:1000]))
    with tempfile.TemporaryDirectory(prefix="lookahead-") as name:
        return _in_directory(Path(name), options, recipe, inputs)


def _recipe(text: str) -> Recipe:
    return resolve(RecipeRequest.model_validate_json(text), catalogue().preset_axes())


def _in_directory(
    directory: Path, options: argparse.Namespace, recipe: Recipe | None, inputs: InputSpecs
) -> ChildResult:
    order = ChildOrder(
        kind=options.command,
        job_id="local",
        model=_placed(directory, "input/model", options.file),
        filename=options.file.name,
        dataset=None if options.data is None else _placed(directory, "input/data", options.data),
        recipe=recipe,
        inputs=inputs,
        device=options.device,
        threads=options.threads,
    )
    (directory / "output").mkdir()
    result = run_order(order, directory, silent)
    if result.error is None and options.command == "prune" and World.present().first:
        shutil.copytree(directory / "output", options.out, dirs_exist_ok=True)
    return result


def _placed(directory: Path, where: str, file: Path) -> str:
    """Copy a file into the job's folder, as the supervisor does; external data beside a model comes along."""
    (directory / where).mkdir(parents=True)
    shutil.copyfile(file, directory / where / file.name)
    beside = file.with_name(file.name + ".data")
    if beside.is_file():
        shutil.copyfile(beside, directory / where / beside.name)
    return f"{where}/{file.name}"


if __name__ == "__main__":
    sys.exit(main())
