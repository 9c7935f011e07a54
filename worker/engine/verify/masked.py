"""A shrunk model is held to the full one in which the weights of the same channels are zero."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from api_schemas.report import CheckResult
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.base import Network, Runner
from worker.engine.graph.build import constants_in
from worker.engine.types import Array
from worker.engine.verify.promises import Promise

#: Largest difference allowed, relative to the largest magnitude of the output.
TOLERANCE = 1e-4
NAME = "equals the masked model"


def write_masked(promise: Promise, network: Network, folder: Path) -> Path:
    """Write the full model with zeros where the plan removes; `network` is a fresh load of the upload."""
    place = {value: number for number, value in enumerate(constants_in(promise.network.structure))}
    values = list(constants_in(network.structure))
    for layer in promise.layers:
        value, keep = values[place[layer.view.value]], promise.plan.of(layer.name).keep
        stored = network.read(value)
        network.write(value, np.where(layer.view.back(keep), stored, np.zeros((), stored.dtype)))
    path = folder / f"masked{network.suffix}"
    network.save(path)
    return path


def check_equal(full: Runner, shrunk: Runner, feeds: Sequence[Mapping[str, Array]]) -> CheckResult:
    """Run both on the same inputs."""
    worst = 0.0
    for feed in feeds:
        expected = full.run(feed)
        try:
            found = shrunk.run(feed)
        except ModelNotRunnableError as error:
            return CheckResult(name=NAME, passed=False, detail=str(error)[:300])
        for first, second in zip(expected, found, strict=True):
            worst = max(worst, relative_difference(first, second))
    detail = f"largest relative difference {worst:.1e} over {len(feeds)} rows"
    return CheckResult(name=NAME, passed=worst <= TOLERANCE, detail=detail)


def relative_difference(first: Array, second: Array) -> float:
    """Largest difference over the largest magnitude; infinite where shapes or finiteness differ."""
    if first.shape != second.shape:
        return float("inf")
    a, b = first.astype(np.float64), second.astype(np.float64)
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return float("inf")
    largest = np.abs(a[finite]).max(initial=0.0)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / largest) if largest else 0.0
