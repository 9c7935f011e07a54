"""Runs both files on the same batches, once, and sums up agreement and accuracy on the way."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, final

from api_schemas.report import AccuracyReport, AgreementReport, DataSource
from worker.engine.data.batches import Batch
from worker.engine.types import Array
from worker.engine.verify.accuracy import AccuracyTally
from worker.engine.verify.agreement import AgreementTally
from worker.engine.verify.latency import Runs


class Named(Runs, Protocol):
    """A runner that knows the names of its outputs."""

    output_names: tuple[str, ...]


@final
@dataclass(frozen=True)
class Comparison:
    """What the outputs say. `accuracy` is null without targets and `accuracy_reason` then says why."""

    agreement: AgreementReport
    accuracy: AccuracyReport | None = None
    accuracy_reason: str | None = None


def compare(
    before: Named,
    after: Named,
    batches: Iterable[Batch],
    source: DataSource,
    *,
    seed: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Run both on every batch; `progress` hears the rows done so far.

    Raises what the runners raise, and `NeedsLabelsError` for targets that fit no output or are no labels.
    """
    agreement, accuracy = AgreementTally(before.output_names), AccuracyTally(before.output_names)
    labelled = False
    for batch in batches:
        old, new = _by_row(before.run(batch.feeds), after.run(batch.feeds), batch.rows)
        agreement.add(old, new, batch.rows)
        if batch.targets is not None:
            labelled = True
            accuracy.add(old, new, batch.targets)
        if progress is not None:
            progress(agreement.rows)
    report = accuracy.report()
    return Comparison(agreement.report(source, seed), report, None if report else _reason(labelled))


def _by_row(old: Sequence[Array], new: Sequence[Array], rows: int) -> tuple[list[Array], list[Array]]:
    """Outputs with a row axis: a model that takes one row without a batch axis gives outputs without one."""
    if rows != 1 or any(array.shape[:1] == (1,) for array in old):
        return list(old), list(new)
    return [array[None] for array in old], [array[None] for array in new]


def _reason(labelled: bool) -> str:
    if labelled:
        return "the outputs are not finite numbers, so that no metric can be taken"
    return "the data holds no `targets`"
