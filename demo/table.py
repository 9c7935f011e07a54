"""The demonstration's one table. Every figure is from the summary of a job."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rich.console import Console
from rich.table import Table

from api_schemas.jobs import Summary


@final
@dataclass(frozen=True)
class Outcome:
    """One pruned file: what it came from, how, the job's figures, and where results lie."""

    file: str
    method: str
    summary: Summary
    model: Path
    report: Path


def show(outcomes: Sequence[Outcome]) -> None:
    """Print the table, and under it where the files are."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    grid = Table(
        title="digits: 90 % of weights zero, as pruned or healed on training images; half of the channels"
    )
    for name in ("file", "method"):
        grid.add_column(name)
    for name in ("weights gone", "accuracy", "size", "zstd", "latency"):
        grid.add_column(name, justify="right", no_wrap=True)
    for outcome in outcomes:
        grid.add_row(outcome.file, outcome.method, *_figures(outcome.summary))
    console.print(grid)
    for outcome in outcomes:
        console.print(f"{outcome.model}  ·  {outcome.report}", highlight=False, soft_wrap=True)


def _figures(summary: Summary) -> tuple[str, ...]:
    return (
        "not measured" if summary.sparsity is None else f"{summary.sparsity:.2%}",
        _change(summary.accuracy_before, summary.accuracy_after, 100, "%", 1),
        _change(summary.size_bytes_before, summary.size_bytes_after, 1e-3, "kB", 0),
        _change(summary.compressed_bytes_before, summary.compressed_bytes_after, 1e-3, "kB", 0),
        _change(summary.latency_ms_before, summary.latency_ms_after, 1, "ms", 3),
    )


def _change(before: float | None, after: float | None, scale: float, unit: str, digits: int) -> str:
    if before is None or after is None:
        return "not measured"
    return f"{before * scale:,.{digits}f} → {after * scale:,.{digits}f} {unit}"
