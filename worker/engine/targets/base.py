"""What a target's unit has to know: what a plan comes to in it, and where the report says what came of it."""

import abc
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from api_schemas.report import Report
from worker.engine import formats
from worker.engine.case import Case
from worker.engine.formats.base import Network
from worker.engine.graph import weights
from worker.engine.graph.build import constants_in
from worker.engine.targets.search import Effort
from worker.engine.types import Plan

_UNITS: dict[str, type["Unit"]] = {}


class Unit(abc.ABC):
    """A unit of targets. A subclass that sets `unit` registers itself under that name."""

    unit: ClassVar[str] = ""
    #: What the figure is, for messages.
    noun: ClassVar[str] = ""
    #: True when the figure grows as more is pruned, so that the goal bounds the sparsity from above.
    grows: ClassVar[bool] = False
    #: How far a search goes.
    effort: ClassVar[Effort] = Effort()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.unit:
            _UNITS[cls.unit] = cls

    def __init__(self, case: Case) -> None:
        self.case = case

    def spend(self) -> Effort:
        """How far the search goes for this case."""
        return self.effort

    @abc.abstractmethod
    def figure(self, plan: Plan) -> float:
        """What the plan comes to in this unit. Raises InvalidRecipeError where that cannot be told."""

    @staticmethod
    @abc.abstractmethod
    def achieved(report: Report) -> float | None:
        """The figure that the finished job measured; None when it did not."""

    def shown(self, figure: float) -> str:
        """The figure in words, rounded up so that asking for it is within reach."""
        return f"{math.ceil(figure * 1e6) / 1e6:.6f} of the original {self.noun}"


def unit_of(name: str) -> type[Unit]:
    """The unit of that name; raises KeyError."""
    return _UNITS[name]


class Written(Unit, abc.ABC):
    """Units that are measured on a file: each plan that is tried is written to scratch."""

    effort: ClassVar[Effort] = Effort(most=24, seconds=300.0)

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._copy: Network | None = None

    @contextmanager
    def written(self, plan: Plan) -> Iterator[Path]:
        """The model as the plan would leave it, as a file that is gone afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="probe-", dir=self.case.context.scratch))
        try:
            network = self._shrunk(plan, folder) if self.case.shrinks else self._masked(plan)
            path = folder / f"probe{network.suffix}"
            network.save(path)
            yield path
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _shrunk(self, plan: Plan, folder: Path) -> Network:
        return self.case.parts.apply.apply(plan, self.case.graph, self.case.network, folder)

    def _masked(self, plan: Plan) -> Network:
        """A second load of the upload with zeros; every probe writes all layers anew from the first load."""
        if self._copy is None:
            self._copy = formats.load(self.case.model, self.case.options)
        values = list(constants_in(self._copy.structure))
        for place, value in enumerate(constants_in(self.case.network.structure)):
            for item in plan.layers:
                view = self.case.graph.layer(item.layer).view
                if view.value is value:
                    self._copy.write(values[place], weights.zeroed(self.case.network, view, item.keep))
        return self._copy
