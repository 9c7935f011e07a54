"""Multiply-accumulates."""

from typing import ClassVar, final

from api_schemas.report import Report
from worker.engine.case import Case
from worker.engine.errors import InvalidRecipeError
from worker.engine.graph.layer import Layer
from worker.engine.report.inspection import dense_macs
from worker.engine.targets import cut
from worker.engine.targets.base import Unit
from worker.engine.targets.zeros import Survivors
from worker.engine.types import Plan


@final
class Macs(Unit):
    """Multiply-accumulates of one sample, over those of the original; where weights are masked, only those
    that multiply by something other than zero."""

    unit: ClassVar[str] = "macs"
    noun: ClassVar[str] = "multiply-accumulates"

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        self._layers = [layer for layer in (*case.graph.layers, *case.graph.refused) if layer.uses]
        self._before = _known(dense_macs(case.graph), self._layers)
        self._survivors = None if case.shrinks else Survivors(case.network, case.graph, case.context)

    def figure(self, plan: Plan) -> float:
        if self._survivors is None:
            return cut.dense_macs(self.case.graph, plan) / self._before
        left = self._survivors.of(plan)
        effective = sum(
            round((layer.macs or 0) * left[layer.name] / layer.size) for layer in self._layers if layer.size
        )
        return effective / self._before

    @staticmethod
    def achieved(report: Report) -> float | None:
        smaller = report.recipe.apply.name == "shrink"
        after = report.after.macs if smaller else report.after.macs_effective
        return None if after is None or not report.before.macs else after / report.before.macs


def _known(total: int | None, layers: list[Layer]) -> int:
    """The count, which must be known of every layer."""
    if not total:
        unknown = [layer.name for layer in layers if layer.macs is None]
        reason = f"the map size of {', '.join(unknown[:3])} is not known" if unknown else "there are none"
        raise InvalidRecipeError(
            f"multiply-accumulates cannot be counted: {reason}",
            hint='give input shapes as "inputs", or aim at "parameters"',
        )
    return total
