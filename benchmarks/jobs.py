"""Jobs of the product without its service: the order that a worker gives its child, run in this process."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from api_schemas.catalogue import load_catalogue
from api_schemas.jobs import ChildOrder
from api_schemas.recipe import Recipe, RecipeRequest, resolve
from api_schemas.report import Report
from worker.engine.context import silent
from worker.engine.orders import run_order


@final
@dataclass(frozen=True)
class Done:
    """What a job left."""

    model: bytes
    report: Report


class JobFailedError(Exception):
    """The job ended with an error; its code and message."""


def resolved(recipe: Mapping[str, Any]) -> Recipe:
    """A recipe with every choice made, as the service makes them."""
    return resolve(RecipeRequest.model_validate(recipe), load_catalogue().preset_axes())


def run(
    model: Path,
    recipe: Mapping[str, Any],
    data: Path | None = None,
    *,
    inputs: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> Done:
    """Run one job to its end. Raises `JobFailedError`."""
    with tempfile.TemporaryDirectory(prefix="job-") as name:
        folder = Path(name)
        (folder / "output").mkdir()
        order = ChildOrder(
            kind="prune",
            job_id="benchmark",
            model=_linked(folder, model),
            filename=model.name,
            dataset=None if data is None else _linked(folder, data),
            recipe=resolved(recipe),
            inputs=dict(inputs or {}),
            threads=threads,
        )
        result = run_order(order, folder, silent)
        if result.error is not None or result.model is None or result.report is None:
            raise JobFailedError(
                "no result" if result.error is None else f"{result.error.code}: {result.error.message}"
            )
        report = Report.model_validate_json((folder / "output" / result.report).read_bytes())
        return Done((folder / "output" / result.model).read_bytes(), report)


def write_data(path: Path, x: Tensor, targets: Tensor, validation_rows: int) -> Path:
    """Rows with labels as a user would upload them; the last ones are marked for validation."""
    held_out = np.zeros(len(targets), np.uint8)
    held_out[-validation_rows:] = 1
    np.savez(path, x=x.numpy(), targets=targets.numpy(), split=held_out)
    return path


def _linked(folder: Path, file: Path) -> str:
    """The file under its name in the job's folder, without a copy."""
    place = folder / "input" / file.name
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(file.resolve())
    return str(place.relative_to(folder))
