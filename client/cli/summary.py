"""The figures of a finished job, for people."""

from collections.abc import Iterator
from pathlib import Path

from api_schemas.jobs import Summary
from client.cli import screen
from client.cli.gates import Verdict


def show_summary(summary: Summary, output: Path | None, job_id: str | None, verdicts: list[Verdict]) -> None:
    """Label and value per line on standard output; what was not measured is not shown."""
    rows: list[tuple[str, object]] = [("job", job_id), *_figures(summary), ("output", output)]
    rows += [("gate", verdict) for verdict in verdicts]
    screen.pairs(rows)


def _figures(summary: Summary) -> Iterator[tuple[str, object]]:
    yield "sparsity", None if summary.sparsity is None else f"{summary.sparsity:.2%}"
    yield "parameters", _change(summary.parameters_before, summary.parameters_after, ",")
    yield "nonzero", None if summary.nonzero_after is None else f"{summary.nonzero_after:,}"
    yield "MACs", _change(summary.macs_before, summary.macs_after, ",")
    yield "file bytes", _change(summary.size_bytes_before, summary.size_bytes_after, ",")
    yield "compressed", _change(summary.compressed_bytes_before, summary.compressed_bytes_after, ",")
    yield "latency ms", _change(summary.latency_ms_before, summary.latency_ms_after, ".3f")
    yield (
        summary.accuracy_metric or "accuracy",
        _change(summary.accuracy_before, summary.accuracy_after, ".4f"),
    )
    yield "output cosine", None if summary.output_cosine is None else f"{summary.output_cosine:.6f}"


def _change(before: float | None, after: float | None, form: str) -> str | None:
    if after is None:
        return None
    return format(after, form) if before is None else f"{before:{form}} → {after:{form}}"
