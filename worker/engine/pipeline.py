"""The story of a job: load, analyse, score and select, apply, heal, save, verify, report."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from api_schemas.jobs import InputSpecs, Refusal, Stage
from api_schemas.jobs import Plan as PlanAnswer
from api_schemas.models import Inspection
from api_schemas.recipe import Recipe
from api_schemas.report import Report
from worker.engine import formats
from worker.engine.case import Case, rows_of
from worker.engine.context import Context
from worker.engine.data import Dataset, load_dataset
from worker.engine.errors import InvalidRecipeError, NeedsInputsError
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph.build import build
from worker.engine.graph.candidates import require_layers
from worker.engine.learning.distributed import World
from worker.engine.planning import analyse, resolve_parts, select
from worker.engine.recovery.none import NoRecovery
from worker.engine.report.build import build_report
from worker.engine.report.history import History
from worker.engine.report.inspection import inspection_of
from worker.engine.report.planned import planned_groups, planned_layer
from worker.engine.rounds import Carried, carry_out
from worker.engine.targets.base import unit_of
from worker.engine.targets.reach import aim, noted
from worker.engine.types import Evidence, Goal
from worker.engine.verify.examine import Examined, examine
from worker.engine.verify.promises import Promise

#: Seconds after which the search for a target takes the nearest so far, where only a plan is asked for.
_PLANNING: Final = 30.0


@dataclass(frozen=True)
class Source:
    """What the user sent: the model file, and perhaps data and input shapes."""

    model: Path
    filename: str
    data: Path | None = None
    inputs: InputSpecs = field(default_factory=dict)


def prune(source: Source, recipe: Recipe, output: Path, context: Context) -> tuple[Path, Report]:
    """Prune `source` by `recipe` into the folder `output`: the file and its report.

    Raises errors of `worker.engine.errors`. A file that fails its own verification is never returned.
    """
    case = _case(source, recipe, context)
    history = History()
    history.before(case.graph, case.network)
    found = aim(case)
    saved, report = _made(case, source, found.goal, history, output)
    floor = None if recipe.target is None else recipe.target.accuracy_drop
    if floor is not None:
        for goal in found.safer(floor):
            if _drop(report) <= floor:
                break
            context.warn("the finished file lost more accuracy than when it was tried: less is pruned")
            saved, report = _made(case, source, goal, history, output, afresh=True)
        _require_floor(report, floor)
    return saved, noted(report, recipe, found)


def _made(
    case: Case, source: Source, goal: Goal, history: History, output: Path, *, afresh: bool = False
) -> tuple[Path, Report]:
    """The file for one goal, verified, and its report. The second time the upload is loaded afresh."""
    network, graph = case.afresh() if afresh else (case.network, case.graph)
    carried = carry_out(case, network, graph, goal)
    history.after(carried.graph or graph, carried.plan, carried.network, case.inputs)
    _require_change(history, healed=bool(case.course))
    with case.context.stage(Stage.SAVING):
        saved = output / f"pruned{carried.network.suffix}"
        carried.network.save(saved)

    def report() -> Report:
        evidence = _examined(case, source, saved, carried)
        return build_report(carried.network, case.recipe, history, evidence, case.context)

    return saved, _told(report)


def _told(make: Callable[[], Report]) -> Report:
    """Of several processes the first examines and measures, while the others are quiet, and tells them."""
    world = World.present()
    if world.size == 1:
        return make()
    return Report.model_validate_json(world.agreed_bytes(lambda: make().model_dump_json().encode()))


def _require_floor(report: Report, floor: float) -> None:
    if _drop(report) > floor:
        raise InvalidRecipeError(
            f"no file keeps the accuracy within {floor:g} points each time it is measured"
        )


def _drop(report: Report) -> float:
    """Points of accuracy lost; nothing where none was measured."""
    achieved = unit_of("accuracy_drop").achieved(report)
    return 0.0 if achieved is None else achieved


def inspect(source: Source, context: Context) -> Inspection:
    """What is in the file, and what could be pruned."""
    network = _load(source, context).network
    with context.stage(Stage.ANALYSING):
        return inspection_of(network, build(network, source.inputs))


def plan(source: Source, recipe: Recipe, context: Context) -> PlanAnswer:
    """What `prune` would do in its first step, without doing it; of a sweep, for its last target."""
    if recipe.sweep is not None:
        recipe = recipe.model_copy(update={"target": recipe.sweep.targets[-1], "sweep": None})
    case = _planned(_case(source, recipe, context))
    graph, first = case.graph, next(iter(case.parts.schedule.steps(aim(case, _PLANNING).goal)))
    with context.stage(Stage.SCORING):
        found = select(case.parts, case.network, graph, first, context, data=case.rows.learning)
    return PlanAnswer(
        layers=[planned_layer(graph, found, layer.name) for layer in graph.layers],
        groups=list(planned_groups(graph, found)),
        refusals=[Refusal(layer=layer.name, reason=layer.reason or "") for layer in graph.refused],
        sparsity=found.sparsity,
        warnings=context.warnings,
    )


def _planned(case: Case) -> Case:
    """The case without healing, where each try of the search for a target would heal: who asks for a plan is
    told in seconds, and what is left out is said."""
    target = case.recipe.target
    if target is None or target.accuracy_drop is None or not case.course:
        return case
    case.context.warn(
        "the plan is the one that keeps to the target before healing; the job heals in every try, which may "
        "let it prune more"
    )
    return replace(case, parts=replace(case.parts, recovery=NoRecovery()))


@dataclass(frozen=True)
class _Loaded:
    network: Network
    inputs: InputSpecs
    data: Dataset | None


def _load(source: Source, context: Context) -> _Loaded:
    """The network, and the data bound to its inputs, which also tells shapes that the file does not."""
    with context.stage(Stage.LOADING):
        network = _network(source.model, source.inputs, context)
        if source.data is None:
            return _Loaded(network, source.inputs, None)
        data = load_dataset(source.data, network.inputs, given=source.inputs)
        inputs = {**data.input_specs(), **source.inputs} if network.needs_inputs else source.inputs
        if network.needs_inputs:
            network = _network(source.model, inputs, context)
        return _Loaded(network, inputs, data)


def _network(model: Path, inputs: InputSpecs, context: Context) -> Network:
    return formats.load(model, LoadOptions(inputs, context.scratch, device=context.device))


def _loaded_to_prune(source: Source, context: Context) -> _Loaded:
    loaded = _load(source, context)
    if loaded.network.needs_inputs:
        require_layers(build(loaded.network, loaded.inputs), loaded.network.structure_warning)
        names = ", ".join(info.name for info in loaded.network.inputs)
        raise NeedsInputsError(
            f"the file does not say the shapes of its inputs ({names})",
            hint='give them, for example "inputs": {"x": [1, 3, 32, 32]}, or upload data',
        )
    return loaded


def _case(source: Source, recipe: Recipe, context: Context) -> Case:
    parts = resolve_parts(recipe)
    loaded = _loaded_to_prune(source, context)
    with context.stage(Stage.ANALYSING):
        graph = analyse(loaded.network, loaded.inputs, recipe, context)
    rows = rows_of(parts, loaded.data, context.seed)
    return Case(source.model, loaded.inputs, rows, loaded.network, graph, parts, recipe, context)


def _examined(case: Case, source: Source, saved: Path, carried: Carried) -> Evidence:
    examined = Examined(source.model, source.filename, saved, case.inputs, case.data, carried.proofs)
    promise = Promise(
        case.network,
        case.graph,
        carried.plan,
        case.shrinks,
        healed=bool(case.course),
        orders=carried.orders,
    )
    return examine(examined, promise, case.context)


def _require_change(history: History, *, healed: bool) -> None:
    """A job that would hand back the model as it came is an error, not a success."""
    _, first, last = history.complete()
    if not healed and first.zeros == last.zeros and first.parameters == last.parameters:
        share = sum(first.zeros.values()) / history.prunable()
        raise InvalidRecipeError(
            f"nothing would change: {share:.4%} of the prunable weights are zero already, "
            "and the recipe asks for no more",
            hint="ask for a higher sparsity",
        )
