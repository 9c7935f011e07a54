"""The story of a job: load, analyse, score and select, apply, heal, save, verify, report."""

from dataclasses import dataclass, field
from pathlib import Path

from api_schemas.jobs import InputSpecs, Refusal, Stage
from api_schemas.jobs import Plan as PlanAnswer
from api_schemas.models import Inspection
from api_schemas.recipe import Recipe
from api_schemas.report import Report
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import Dataset, load_dataset
from worker.engine.errors import InvalidRecipeError, NeedsInputsError
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph.build import build
from worker.engine.graph.candidates import require_layers
from worker.engine.planning import Parts, analyse, resolve_parts, select
from worker.engine.report.build import build_report
from worker.engine.report.history import History
from worker.engine.report.inspection import inspection_of
from worker.engine.report.planned import planned_groups, planned_layer
from worker.engine.targets.base import Case
from worker.engine.targets.reach import aim, noted
from worker.engine.verify.examine import Examined, examine
from worker.engine.verify.promises import Promise


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
    parts = resolve_parts(recipe)
    loaded = _loaded_to_prune(source, context)
    case = _case(source, parts, loaded, recipe, context)
    network, graph, history = loaded.network, case.graph, History()
    history.before(graph, network)
    found = aim(case, recipe)
    for goal in parts.schedule.steps(found.goal):
        if network is not loaded.network:  # the file got smaller, and its graph with it
            with context.stage(Stage.ANALYSING):
                graph = analyse(network, loaded.inputs, recipe, context)
        with context.stage(Stage.SCORING):
            plan = select(parts, network, graph, goal, context)
        with context.stage(Stage.APPLYING):
            network = parts.apply.apply(plan, graph, network, context.scratch)
        with context.stage(Stage.RECOVERING):
            parts.recovery.heal(network, plan, graph, context)
        history.after(graph, plan, network, loaded.inputs)
    _require_change(history)
    with context.stage(Stage.SAVING):
        saved = output / f"pruned{network.suffix}"
        network.save(saved)
    examined = Examined(source.model, source.filename, saved, loaded.inputs, loaded.data)
    evidence = examine(examined, Promise(loaded.network, graph, plan, parts.apply.shrinks), context)
    return saved, noted(build_report(network, recipe, history, evidence, context), recipe, found)


def inspect(source: Source, context: Context) -> Inspection:
    """What is in the file, and what could be pruned."""
    network = _load(source, context).network
    with context.stage(Stage.ANALYSING):
        return inspection_of(network, build(network, source.inputs))


def plan(source: Source, recipe: Recipe, context: Context) -> PlanAnswer:
    """What `prune` would do in its first step, without doing it."""
    parts = resolve_parts(recipe)
    loaded = _loaded_to_prune(source, context)
    case = _case(source, parts, loaded, recipe, context)
    first = next(parts.schedule.steps(aim(case, recipe).goal))
    graph = case.graph
    with context.stage(Stage.SCORING):
        found = select(parts, loaded.network, graph, first, context)
    return PlanAnswer(
        layers=[planned_layer(graph, found, layer.name) for layer in graph.layers],
        groups=list(planned_groups(graph, found)),
        refusals=[Refusal(layer=layer.name, reason=layer.reason or "") for layer in graph.refused],
        sparsity=found.sparsity,
        warnings=context.warnings,
    )


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


def _case(source: Source, parts: Parts, loaded: _Loaded, recipe: Recipe, context: Context) -> Case:
    with context.stage(Stage.ANALYSING):
        graph = analyse(loaded.network, loaded.inputs, recipe, context)
    return Case(source.model, loaded.inputs, loaded.data, loaded.network, graph, parts, context)


def _require_change(history: History) -> None:
    """A job that would hand back the model as it came is an error, not a success."""
    _, first, last = history.complete()
    if first.zeros == last.zeros and first.parameters == last.parameters:
        share = sum(first.zeros.values()) / history.prunable()
        raise InvalidRecipeError(
            f"nothing would change: {share:.4%} of the prunable weights are zero already, "
            "and the recipe asks for no more",
            hint="ask for a higher sparsity",
        )
