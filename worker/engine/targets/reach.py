"""From a recipe's target to a goal in sparsity, whatever unit the target has."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from api_schemas.jobs import Stage
from api_schemas.recipe import Recipe
from api_schemas.report import Report, TargetProbe
from worker.engine.case import Case
from worker.engine.context import silent
from worker.engine.errors import InvalidRecipeError
from worker.engine.learning.distributed import World
from worker.engine.planning import goal_of, overrides_of, selector
from worker.engine.targets.base import Unit, unit_of
from worker.engine.targets.search import Effort, Probe, Trial, allowed_range, crossing
from worker.engine.types import Goal, Plan


@final
@dataclass(frozen=True)
class Aim:
    """The goal, and what was tried to find it; nothing where the recipe names the sparsity itself."""

    goal: Goal
    probes: Sequence[TargetProbe] = ()

    def safer(self, asked: float) -> Iterator[Goal]:
        """Lower goals that kept to what was asked when they were tried, the highest first."""
        kept = [probe.sparsity for probe in self.probes if probe.figure <= asked]
        for sparsity in sorted(kept, reverse=True):
            if sparsity < self.goal.sparsity:
                yield Goal(sparsity, self.goal.overrides)


def aim(case: Case, seconds: float = math.inf) -> Aim:
    """The goal that meets the target as closely as whole units allow, or as that much time allows.

    Raises InvalidRecipeError when no sparsity does, telling the nearest figure within reach.
    """
    recipe, parts = case.recipe, case.parts
    target = recipe.target
    known = parts.granularity.sparsity is not None or parts.allocation.requires().targets == []
    if target is None or target.sparsity is not None or known:
        return Aim(goal_of(parts, recipe))
    with case.context.stage(Stage.SELECTING):
        unit = unit_of(target.unit)(case)
        trial = _trial(case, unit)
        found = _search(trial, unit, float(getattr(target, target.unit)), seconds)
    tried = sorted(trial.probes.values(), key=lambda probe: probe.sparsity)
    curve = [TargetProbe(sparsity=probe.sparsity, figure=probe.figure) for probe in tried]
    return Aim(Goal(found.sparsity, overrides_of(recipe)), curve)


def _trial(case: Case, unit: Unit) -> Trial:
    quiet = replace(case.context, emit=silent)
    select = selector(case.parts, case.network, case.graph, quiet, case.rows.learning)
    overrides, checkpoints = overrides_of(case.recipe), case.context.checkpoints
    trial = Trial(select=lambda sparsity: select(Goal(sparsity, overrides)), measure=partial(_figure, unit))
    saved = checkpoints.load()
    if saved is not None:  # figures that an earlier attempt has taken need not be taken again
        trial.probes.update(
            {pruned: Probe(at, pruned, figure) for at, pruned, figure in saved.state["tried"]}
        )

    def done(count: int) -> None:
        case.context.progress(count, max(count, unit.spend().most), "tries")
        checkpoints.save({"tried": [[p.sparsity, p.pruned, p.figure] for p in trial.probes.values()]})

    trial.done = done
    return trial


def _figure(unit: Unit, plan: Plan) -> float:
    """The figure that the first of several processes took: they have to go on alike."""
    figure = unit.figure(plan)
    return float(World.present().agreed(lambda: figure))


def _search(trial: Trial, unit: Unit, goal: float, seconds: float) -> Probe:
    least, most = allowed_range(trial.select)
    easy, hard = (most, least) if not unit.grows else (least, most)
    good = trial.at(easy)
    if good.figure > goal:
        raise InvalidRecipeError(
            f"the target cannot be met: {unit.unit} of {goal:g} was asked for, and the least that this "
            f"recipe reaches on this model is {unit.shown(good.figure)}",
            hint="ask for more, exclude fewer layers, or choose other parts",
        )
    bad = trial.at(hard)
    return bad if bad.figure <= goal else crossing(trial, good, bad, goal, _effort(unit, seconds))


def _effort(unit: Unit, seconds: float) -> Effort:
    """By one clock, though there be several processes."""
    effort = unit.spend()
    shorter = min(effort.seconds, seconds)
    return replace(effort, seconds=shorter, clock=lambda: float(World.present().agreed(effort.clock)))


def noted(report: Report, recipe: Recipe, found: Aim) -> Report:
    """The report with what was asked for and achieved in the target's own unit."""
    if recipe.target is None:
        return report
    name = recipe.target.unit
    asked = float(getattr(recipe.target, name))
    if name == "sparsity":
        return report.model_copy(
            update={"target_unit": name, "target_requested": asked, "target_achieved": report.achieved}
        )
    achieved = unit_of(name).achieved(report)
    warnings = list(report.warnings)
    if achieved is not None and achieved > asked:
        warnings.append(
            f"the target was {name} of {asked:g} at most; measured on the finished file it is {achieved:.4g}"
        )
    return report.model_copy(
        update={
            "target_unit": name,
            "target_requested": asked,
            "target_achieved": achieved,
            "target_probes": list(found.probes),
            "warnings": warnings,
        }
    )
