"""Parameters."""

from typing import ClassVar, final

from api_schemas.report import Report
from worker.engine.case import Case
from worker.engine.report.inspection import count_parameters
from worker.engine.targets.base import Unit
from worker.engine.targets.cut import removed_parameters
from worker.engine.targets.zeros import Survivors
from worker.engine.types import Plan


@final
class Parameters(Unit):
    """Numbers stored, over those of the original; where weights are masked, numbers that are not zero over
    numbers stored."""

    unit: ClassVar[str] = "parameters"
    noun: ClassVar[str] = "parameters"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._stored, self._nonzero = count_parameters(case.network, case.graph)
        self._survivors = None if case.shrinks else Survivors(case.network, case.graph, case.context)

    def figure(self, plan: Plan) -> float:
        if self._survivors is None:
            gone = removed_parameters(self.case.network, self.case.graph, plan)
            return (self._stored - gone) / self._stored
        gone = sum(self._survivors.before.values()) - sum(self._survivors.of(plan).values())
        return (self._nonzero - gone) / self._stored

    @staticmethod
    def achieved(report: Report) -> float | None:
        smaller = report.recipe.apply.name == "shrink"
        return (report.after.parameters if smaller else report.after.nonzero) / report.before.parameters
