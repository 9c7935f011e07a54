"""The report as one self-contained page: inline style, inline SVG, no script, nothing fetched.

The page renders the JSON of the report and computes nothing but changes between two of its figures.
Long lists are cut at stated limits, and the page says what it left to the JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, final

import jinja2
from markupsafe import Markup

from api_schemas.report import LayerReport, Report
from worker.engine.report import recoveries, searches, svg, text, wording
from worker.engine.report.figures import Figures

#: What one page shows at most of each kind; the rest is counted on the page and is in the JSON.
MOST_LAYERS, MOST_DRAWN, MOST_ITEMS, MOST_RECIPE_LINES = 1000, 400, 300, 300
#: What stands open; more of it is folded.
OPEN_ROWS, OPEN_DRAWINGS, LARGEST, OPEN_NAMES = 60, 12, 10, 12

_FOLDER = Path(__file__).parent


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


# Read when imported: a sandboxed child may not be allowed to open files of the package later.
_TEMPLATE = _environment().get_template("page.html.j2")
_STYLE = Markup((_FOLDER / "page.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file


@final
@dataclass(frozen=True)
class LayerRow:
    """A layer as the page shows it; `at` is its JSON pointer."""

    number: int
    at: str
    name: str
    tooltip: str | None
    op: str
    shape: str
    bar: Markup
    notes: tuple[str, ...]


@final
@dataclass(frozen=True)
class LayerDrawing:
    """The histograms of one layer."""

    row: LayerRow
    weights: svg.WeightDrawing | None
    scores: Markup | None
    has_threshold: bool
    log_scores: bool


@final
@dataclass(frozen=True)
class RefusedGroup:
    """Layers left alone for the same reason."""

    reason: str
    names: tuple[str, ...]

    @property
    def first(self) -> tuple[str, ...]:
        """The names that stand open."""
        return self.names[:OPEN_NAMES]

    @property
    def rest(self) -> tuple[str, ...]:
        """The names that are folded, as many as a page takes."""
        return self.names[OPEN_NAMES : OPEN_NAMES + MOST_ITEMS]


def render(report: Report) -> str:
    """The page of a report: a complete XHTML-clean HTML document that runs and loads nothing."""
    figures = Figures.of(report)
    rows = [_row(index, layer) for index, layer in enumerate(report.layers[:MOST_LAYERS])]
    return _TEMPLATE.render(
        style=_STYLE,
        r=figures.json,
        figures=figures,
        show=figures.show,
        verdict=wording.verdict(figures),
        share_metric=wording.is_share(report.accuracy.metric) if report.accuracy else False,
        created=_moment(report.created_at),
        rows=rows,
        largest=_largest(report.layers[:MOST_LAYERS], rows),
        chart=svg.sparsity_chart(
            [_column(row, layer) for row, layer in zip(rows, report.layers, strict=False)]
        ),
        drawings=_drawings(report.layers, rows),
        search_curve=searches.search_curve(report),
        sweep_curve=searches.sweep_curve(report),
        loss_curves=[recoveries.loss_curve(item) for item in report.recovery[:MOST_ITEMS]],
        metric_kinds=[recoveries.metric_kind(item) for item in report.recovery[:MOST_ITEMS]],
        sweep_targets=[searches.target_text(point.target) for point in report.sweep],
        refused=_refused(report),
        removed=report.recipe.apply.name == "shrink",
        recipe=_recipe_lines(report),
        limits=_limits(),
        text=text,
        wording=wording,
    )


def _shapes(layer: LayerReport) -> str:
    """A weight's shape, and what it became where weights left the file."""
    before = _shape(layer.shape)
    return before if layer.shape_after is None else f"{before} → {_shape(layer.shape_after)}"


def _shape(sizes: Sequence[int]) -> str:
    return "×".join(str(size) for size in sizes[:8]) + ("×…" if len(sizes) > 8 else "")


def _limits() -> Mapping[str, int]:
    return {
        "layers": MOST_LAYERS,
        "items": MOST_ITEMS,
        "open_rows": OPEN_ROWS,
        "open_drawings": OPEN_DRAWINGS,
        "recipe_lines": MOST_RECIPE_LINES,
    }


def _moment(at: datetime) -> str:
    return at.strftime("%d %B %Y, %H:%M %Z").strip().lstrip("0")


def _row(index: int, layer: LayerReport) -> LayerRow:
    return LayerRow(
        number=index + 1,
        at=f"/layers/{index}",
        name=text.name(layer.name),
        tooltip=text.tooltip(layer.name),
        op=text.cut(layer.op, 32),
        shape=_shapes(layer),
        bar=svg.sparsity_bar(layer.sparsity_before, layer.sparsity_after, layer.requested),
        notes=tuple(text.prose(note) for note in layer.notes[:MOST_ITEMS]),
    )


def _column(row: LayerRow, layer: LayerReport) -> svg.Column:
    label = f"{row.number} · {row.name}: {layer.sparsity_before:.2%} → {layer.sparsity_after:.2%}"
    return svg.Column(label, layer.sparsity_before, layer.sparsity_after, layer.requested)


def _largest(layers: Sequence[LayerReport], rows: Sequence[LayerRow]) -> list[LayerRow]:
    """The layers that hold most weights, largest first; empty when all rows stand open anyway."""
    if len(rows) <= OPEN_ROWS:
        return []
    order = sorted(range(len(rows)), key=lambda index: -layers[index].parameters)
    return [rows[index] for index in order[:LARGEST]]


def _drawings(layers: Sequence[LayerReport], rows: Sequence[LayerRow]) -> list[LayerDrawing]:
    drawn = (_drawing(layer, row) for layer, row in zip(layers, rows, strict=False))
    return [item for item in drawn if item.weights or item.scores][:MOST_DRAWN]


def _drawing(layer: LayerReport, row: LayerRow) -> LayerDrawing:
    return LayerDrawing(
        row=row,
        weights=svg.weight_histogram(layer.weights_before, layer.weights_after),
        scores=svg.score_histogram(layer.scores, layer.score_threshold),
        has_threshold=layer.score_threshold is not None,
        log_scores=layer.scores is not None and layer.scores.log10,
    )


def _refused(report: Report) -> list[RefusedGroup]:
    """Refusals by reason, the commonest first."""
    groups: dict[str, list[str]] = {}
    for refusal in report.refusals:
        groups.setdefault(refusal.reason, []).append(text.name(refusal.layer))
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [RefusedGroup(text.prose(reason), tuple(names)) for reason, names in ordered]


def _recipe_lines(report: Report) -> list[str]:
    """The recipe as indented JSON, in ASCII so that no character of it can hide."""
    plain: Any = report.recipe.model_dump(mode="json", exclude_none=True)
    lines = json.dumps(plain, indent=2, ensure_ascii=True).splitlines()
    return [line if len(line) <= text.PROSE else f"{line[: text.PROSE]}…" for line in lines]
