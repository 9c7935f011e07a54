"""What was tried on the way to the file: the curve of a target search, the points of a sweep."""

from markupsafe import Markup

from api_schemas.recipe import Target
from api_schemas.report import Report, SweepPoint
from worker.engine.report import text
from worker.engine.report.curves import Mark, Scale, curve
from worker.engine.report.figures import large, percent, significant
from worker.engine.report.wording import is_share

_SPARSITY = Scale("sparsity", percent)


def search_curve(report: Report) -> Markup | None:
    """The figure over the sparsity at every probe, with the goal as a line."""
    if report.target_unit is None:
        return None
    marks = [
        Mark(probe.sparsity, probe.figure, f"{percent(probe.sparsity)}: {significant(probe.figure, 4)}")
        for probe in report.target_probes
    ]
    return curve(marks, _SPARSITY, Scale(report.target_unit, significant), report.target_requested)


def sweep_curve(report: Report) -> Markup | None:
    """Quality over size: points of the front are joined, others stand beside."""
    points = sorted((p for p in report.sweep if p.nonzero is not None), key=lambda p: p.nonzero or 0)
    marks = [mark for point in points if (mark := _mark(point)) is not None]
    return curve(marks, Scale("parameters other than zero", large), _quality(report))


def _mark(point: SweepPoint) -> Mark | None:
    quality = point.output_cosine if point.accuracy is None else point.accuracy
    if quality is None or point.nonzero is None:
        return None
    words = target_text(point.target)
    return Mark(point.nonzero, quality, words, joined=point.front, chosen=point.chosen, note=words)


def _quality(report: Report) -> Scale:
    accuracy = report.accuracy
    if accuracy is None:
        return Scale("output cosine", lambda value: significant(value, 4))
    spell = percent if is_share(accuracy.metric) else significant
    return Scale(text.name(accuracy.metric), spell)


def target_text(target: Target) -> str:
    """A target in words: sparsity 0.8."""
    return f"{target.unit} {getattr(target, target.unit):g}"
