"""The sentences of the report page: what was asked, what was achieved, and what it cost."""

from markupsafe import Markup

from worker.engine.report.figures import Figures
from worker.engine.report.text import cut

_ASKED = {
    "parameters": Markup("keep {} of the parameters"),
    "macs": Markup("keep {} of the multiply-accumulates"),
    "size_bytes": Markup("keep {} of the file size"),
    "latency": Markup("keep {} of the latency"),
}
#: Where the outputs were compared, in words.
SOURCES = {"dataset": "on the uploaded data", "random": "on random inputs"}


def is_share(metric: str) -> bool:
    """Whether a metric is a share of right answers, and so reads best in percent."""
    return metric.endswith("accuracy")


def verdict(figures: Figures) -> Markup:
    """One sentence: the achieved sparsity, the request, and the most telling measurement of its cost."""
    return Markup("{}{}{}.").format(_achieved(figures), _asked(figures), _cost(figures))


def _achieved(figures: Figures) -> Markup:
    removed = figures.at("/recipe/apply/name") == "shrink"
    return Markup("{} of the {} prunable weights {}").format(
        figures.show("/achieved", "percent"),
        figures.show("/prunable_parameters", "count"),
        "were removed" if removed else "are zero",
    )


def _asked(figures: Figures) -> Markup:
    """The request in brackets, or that it was met: exactly, but for the one weight per layer of rounding."""
    requested, prunable = figures.at("/requested"), figures.at("/prunable_parameters")
    if requested is not None:
        if abs(requested - figures.at("/achieved")) * prunable <= len(figures.at("/layers")):
            return Markup(", as asked")
        return Markup(" (asked for {})").format(figures.show("/requested", "percent"))
    return _asked_in(figures)


def _asked_in(figures: Figures) -> Markup:
    """The request when it was given in another unit than sparsity."""
    target = figures.at("/recipe/target") or {}
    unit = next((name for name, value in target.items() if value is not None), None)
    if unit == "sparsity":
        share = figures.show("/recipe/target/sparsity", "percent")
        return Markup(" (asked for {} of the {}s)").format(share, figures.at("/recipe/granularity/name"))
    if unit in _ASKED:
        share = figures.show(f"/recipe/target/{unit}", "percent")
        return Markup(" (asked to {}{})").format(_ASKED[unit].format(share), _came_to(figures, "percent"))
    if unit == "accuracy_drop":
        points = figures.show("/recipe/target/accuracy_drop", "number")
        came = _came_to(figures, "number")
        return Markup(" (asked to lose at most {} points of accuracy{})").format(points, came)
    return Markup("")


def _came_to(figures: Figures, kind: str) -> Markup:
    """What the finished file has in the unit of the target; nothing where that was not measured."""
    if figures.at("/target_achieved") is None:
        return Markup("")
    return Markup("; it came to {}").format(figures.show("/target_achieved", kind))


def _cost(figures: Figures) -> Markup:
    if figures.at("/accuracy/before") is not None and figures.at("/accuracy/after") is not None:
        return _accuracy_cost(figures)
    if figures.at("/summary/output_cosine") is not None:
        source = SOURCES.get(figures.at("/agreement/source") or "", "")
        where = f" {source}" if source else ""
        similarity = figures.show("/summary/output_cosine", "cosine")
        return Markup("; its outputs have cosine similarity {} with those of the original{}").format(
            similarity, where
        )
    return Markup("")


def _accuracy_cost(figures: Figures) -> Markup:
    metric = str(figures.at("/accuracy/metric"))
    kind = "percent" if is_share(metric) else "number"
    return Markup("; {} went from {} to {}").format(
        cut(metric, 60), figures.show("/accuracy/before", kind), figures.show("/accuracy/after", kind)
    )
