"""One job's case: the upload, its analysis, the parts of the recipe, and the rows there are to use."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from api_schemas.jobs import InputSpecs
from api_schemas.recipe import Recipe
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.errors import TooFewRowsError
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph.analysis import Graph
from worker.engine.planning import Parts, analyse
from worker.engine.recovery.base import Recovery

#: Share of the rows that is held out when others are learnt from.
HELD_OUT = 0.2


@final
@dataclass(frozen=True)
class Rows:
    """`measured` is what figures are taken on. Where something learns, it does so from `learning` alone, and
    no row is in both."""

    measured: Dataset | None = None
    learning: Dataset | None = None


def rows_of(parts: Parts, data: Dataset | None, seed: int) -> Rows:
    """All rows to measure on, or, where criterion or recovery look at data, those held out."""
    if data is None:
        return Rows()
    needs = parts.criterion.requires()
    if not (needs.data or needs.labels or parts.recovery.course(data)):
        return Rows(measured=data)
    try:
        learning, held_out = data.split(HELD_OUT, seed)
    except TooFewRowsError:
        if needs.data or needs.labels or parts.recovery.name != "auto":
            raise
        return Rows(measured=data)  # nobody asked for healing, so that few rows are no fault
    return Rows(measured=held_out, learning=learning)


@final
@dataclass(frozen=True)
class Case:
    """The upload as it was loaded, what was found in it, and what is to be done."""

    model: Path
    inputs: InputSpecs
    rows: Rows
    network: Network
    graph: Graph
    parts: Parts
    recipe: Recipe
    context: Context

    @property
    def data(self) -> Dataset | None:
        """The rows that figures are taken on."""
        return self.rows.measured

    @property
    def shrinks(self) -> bool:
        """True when what is pruned leaves the file."""
        return self.parts.apply.shrinks

    @property
    def course(self) -> Sequence[Recovery]:
        """What heals, in order."""
        return self.parts.recovery.course(self.rows.learning)

    @property
    def options(self) -> LoadOptions:
        """How files of this job are loaded."""
        return LoadOptions(self.inputs, self.context.scratch, device=self.context.device)

    def afresh(self) -> tuple[Network, Graph]:
        """The upload loaded and analysed again: to be pruned without a trace on `network`."""
        network = formats.load(self.model, self.options)
        return network, analyse(network, self.inputs, self.recipe, self.context)
