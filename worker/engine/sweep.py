"""A sweep: several targets, each carried out on the upload and measured, and one file handed out."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from api_schemas.recipe import Recipe, Sweep, Target
from api_schemas.report import Report, SweepPoint
from worker.engine import pipeline
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, NeedsLabelsError
from worker.engine.pipeline import Source

#: How many points a refusal tells of.
_MOST_TOLD: Final = 10


def prune(source: Source, recipe: Recipe, output: Path, context: Context) -> tuple[Path, Report]:
    """What `pipeline.prune` does, for a recipe with a target or with a sweep over several.

    Raises errors of `worker.engine.errors`; InvalidRecipeError where no target of a sweep can be met.
    """
    if recipe.sweep is None:
        return pipeline.prune(source, recipe, output, context)
    sweep, tried, best = recipe.sweep, list[SweepPoint](), None
    for number, target in enumerate(sweep.targets):
        found = _try(source, recipe, target, context)
        tried.append(found if isinstance(found, SweepPoint) else _point(target, found.report))
        if isinstance(found, _Made):
            best = _better(best, replace(found, number=number), sweep)
        context.progress(number + 1, len(sweep.targets), "targets")
    if best is None:
        raise _nothing(tried, sweep)
    saved = output / best.saved.name
    shutil.move(best.saved, saved)
    points = [
        point.model_copy(update={"chosen": n == best.number}) for n, point in enumerate(_fronted(tried))
    ]
    warnings = [*best.report.warnings, *context.warnings]
    return saved, best.report.model_copy(update={"recipe": recipe, "sweep": points, "warnings": warnings})


@final
@dataclass(frozen=True)
class _Made:
    """A target that was carried out: its place in the sweep, the file and its report."""

    saved: Path
    report: Report
    number: int = 0


def _try(source: Source, recipe: Recipe, target: Target, context: Context) -> _Made | SweepPoint:
    """Each target has warnings and times of its own, as if it were alone."""
    folder = Path(tempfile.mkdtemp(prefix="target-", dir=context.scratch))
    alone = recipe.model_copy(update={"target": target, "sweep": None})
    try:
        saved, report = pipeline.prune(source, alone, folder, replace(context, warnings=[], times=[]))
    except InvalidRecipeError as error:
        context.warn(f"{_named(target)}: {error}")
        return SweepPoint(target=target, error=str(error))
    return _Made(saved, report)


def _better(best: _Made | None, made: _Made, sweep: Sweep) -> _Made | None:
    """The smaller of two that keep to the floor; the file of the other is no longer needed."""
    if not _within(made.report, sweep):
        loser: _Made | None = made
    elif best is None or made.report.after.nonzero < best.report.after.nonzero:
        best, loser = made, best
    else:
        loser = made
    if loser is not None:
        shutil.rmtree(loser.saved.parent, ignore_errors=True)
    return best


def _within(report: Report, sweep: Sweep) -> bool:
    if sweep.accuracy_drop is None:
        return True
    accuracy = report.accuracy
    if accuracy is None or not accuracy.metric.endswith("accuracy"):
        raise NeedsLabelsError("a sweep with `accuracy_drop` needs class labels as `targets`")
    return 100.0 * (accuracy.before - accuracy.after) <= sweep.accuracy_drop


def _point(target: Target, report: Report) -> SweepPoint:
    after, summary = report.after, report.summary
    return SweepPoint(
        target=target,
        sha256=after.sha256,
        sparsity=report.achieved,
        parameters=after.parameters,
        nonzero=after.nonzero,
        macs_effective=after.macs_effective,
        size_bytes=after.size_bytes,
        compressed_bytes=after.compressed_bytes,
        latency_ms=summary.latency_ms_after,
        accuracy=summary.accuracy_after,
        lower_is_better=report.accuracy is not None and report.accuracy.lower_is_better,
        output_cosine=summary.output_cosine,
    )


def _fronted(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    return [point.model_copy(update={"front": on_front(point, points)}) for point in points]


def on_front(point: SweepPoint, points: Sequence[SweepPoint]) -> bool:
    """True when no other point is at least as good in size and in quality and better in one of them."""
    own = _standing(point)
    if own is None:
        return False
    others = [standing for other in points if (standing := _standing(other)) is not None]
    return not any(o[0] <= own[0] and o[1] >= own[1] and o != own for o in others)


def _standing(point: SweepPoint) -> tuple[int, float] | None:
    """Size, and quality where more is better."""
    quality = point.output_cosine if point.accuracy is None else point.accuracy
    if point.nonzero is None or quality is None:
        return None
    return point.nonzero, -quality if point.lower_is_better else quality


def _nothing(points: Sequence[SweepPoint], sweep: Sweep) -> InvalidRecipeError:
    reasons = [point.error for point in points if point.error is not None]
    if len(reasons) == len(points):
        return InvalidRecipeError(f"no target of the sweep can be met: {reasons[0]}")
    measured = [f"{_named(p.target)} leaves {p.accuracy:.4g}" for p in points if p.accuracy is not None]
    return InvalidRecipeError(
        f"no target of the sweep keeps the accuracy within {sweep.accuracy_drop:g} points: "
        + "; ".join(measured[:_MOST_TOLD]),
        hint="ask for less, or give data to heal with",
    )


def _named(target: Target) -> str:
    return f"{target.unit} of {getattr(target, target.unit):g}"
