"""From a recipe and a network to a plan: which parts, which layers, what each keeps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import final

import numpy as np

from api_schemas.jobs import InputSpecs
from api_schemas.recipe import Recipe
from worker.engine import allocation, criteria, granularity, recovery, registry, schedule
from worker.engine import apply as apply_parts
from worker.engine.allocation.base import Allocation, Ranking
from worker.engine.apply.base import Apply
from worker.engine.apply.mask import Mask
from worker.engine.context import Context, quietly, silent
from worker.engine.criteria.base import Criterion, Scorer, Subject
from worker.engine.data import Dataset
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.base import Network
from worker.engine.formats.draft import Draft
from worker.engine.formats.memory import Shelf
from worker.engine.granularity.base import Block, Granularity
from worker.engine.granularity.followed import followed
from worker.engine.granularity.naming import block_shares
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import build
from worker.engine.graph.candidates import fitted, narrowed, require_layers
from worker.engine.recovery.base import Recovery
from worker.engine.schedule.base import NOTHING, Schedule
from worker.engine.types import BlockPlan, Goal, Plan, Scores

#: Importing these packages registers every part there is.
AXES = (criteria, granularity, allocation, schedule, apply_parts, recovery)
#: How far a written-out sparsity (0.6667) may lie from the share that it stands for.
_ROUNDED = 1e-4


@dataclass(frozen=True)
class Parts:
    """The parts that a recipe names."""

    criterion: Criterion
    granularity: Granularity
    allocation: Allocation
    schedule: Schedule
    apply: Apply
    recovery: Recovery


def resolve_parts(recipe: Recipe) -> Parts:
    """The recipe's parts; InvalidRecipeError for an unknown name, a bad parameter or a pair without sense."""
    parts = Parts(
        registry.resolve(Criterion, recipe.criterion),
        registry.resolve(Granularity, recipe.granularity),
        registry.resolve(Allocation, recipe.allocation),
        registry.resolve(Schedule, recipe.schedule),
        registry.resolve(Apply, recipe.apply),
        registry.resolve(Recovery, recipe.recovery),
    )
    for part in vars(parts).values():
        allowed = part.requires().granularities
        if allowed is not None and parts.granularity.name not in allowed:
            raise InvalidRecipeError(
                f"{part.axis} {part.name!r} works with granularity {', '.join(allowed)}, "
                f"not with {parts.granularity.name!r}"
            )
    return parts


def goal_of(parts: Parts, recipe: Recipe) -> Goal:
    """The recipe's goal; layers still go by the names the user gave."""
    overrides = overrides_of(recipe)
    name = parts.allocation.name
    if parts.allocation.requires().targets == []:
        if recipe.target is not None:
            raise InvalidRecipeError(f"allocation {name!r} takes no target: name layers instead")
        if not overrides:
            raise InvalidRecipeError(f"allocation {name!r} needs a sparsity for at least one layer")
        return Goal(0.0, overrides)
    if parts.granularity.sparsity is not None:
        return Goal(_fixed(parts.granularity, parts.granularity.sparsity, recipe), overrides)
    if recipe.target is None:
        raise InvalidRecipeError("the recipe has no target", hint='for example "target": {"sparsity": 0.8}')
    if recipe.target.sparsity is None:
        raise InvalidRecipeError(f"a target in {recipe.target.unit} is found by search, not known beforehand")
    return Goal(recipe.target.sparsity, overrides)


def _fixed(granularity: Granularity, sparsity: float, recipe: Recipe) -> float:
    """The sparsity that the granularity fixes; a target, where there is one, must say the same."""
    target = recipe.target
    if target is not None and (target.sparsity is None or abs(target.sparsity - sparsity) > _ROUNDED):
        raise InvalidRecipeError(
            f"granularity {granularity.name!r} with these parameters removes {sparsity:.4%} of every layer: "
            "ask for that sparsity, or for none"
        )
    return sparsity


def overrides_of(recipe: Recipe) -> dict[str, float]:
    """The shares that the recipe gives layers of their own, by the names the user gave."""
    return {name: override.sparsity for name, override in recipe.layers.items()}


def analyse(network: Network, inputs: InputSpecs, recipe: Recipe, context: Context) -> Graph:
    """The network's graph; layers that the recipe excludes, or its granularity does not fit, are refused."""
    if network.structure_warning:
        context.warn(network.structure_warning)
    units = registry.resolve(Granularity, recipe.granularity)
    graph = build(network, inputs, heads=units.whole_heads)
    require_layers(graph, network.structure_warning)
    graph = narrowed(graph, recipe.exclude, context.warn)
    graph = fitted(graph, units.fitted)
    return followed(graph, network) if registry.resolve(Apply, recipe.apply).shrinks else graph


def select(
    parts: Parts,
    network: Network,
    graph: Graph,
    goal: Goal,
    context: Context,
    *,
    before: Goal = NOTHING,
    data: Dataset | None = None,
    histograms: bool = True,
) -> Plan:
    """Score the units and decide what each layer keeps, cut by cut from what `before` left. The network stays
    as it is; criteria may look at `data`."""
    *earlier, last = _cuts(parts, goal, before)
    if not earlier:
        return _select(parts, network, graph, goal, context, data, histograms=histograms)
    draft = Draft(network, context.scratch)
    for done, cut in enumerate(earlier, 1):
        plan = _select(parts, draft, graph, cut, replace(context, emit=silent), data, histograms=False)
        Mask().apply(plan, graph, draft, context.scratch)
        context.progress(done, len(earlier) + 1, "cuts")
    return _select(parts, draft, graph, last, context, data, histograms=histograms)


def selector(
    parts: Parts, network: Network, graph: Graph, context: Context, data: Dataset | None = None
) -> Callable[[Goal], Plan]:
    """`select` for one goal after another, without histograms. Scores are computed once, unless they depend
    on what goes: on the cuts before, on the layers before, or on how much it is."""
    several = len(list(islice(_cuts(parts, Goal(0.5)), 2))) > 1
    if several or _by_share(parts) or parts.criterion.sequence(graph.layers) is not None:
        return lambda goal: select(parts, network, graph, goal, context, data=data, histograms=False)
    return _Selection(parts, network, graph, context, data, remember=True).plan


def _cuts(parts: Parts, goal: Goal, before: Goal = NOTHING) -> Iterator[Goal]:
    """The schedule's cuts, each in as many equal parts as the criterion takes."""
    for cut in parts.schedule.cuts(goal, before):
        for part in range(1, parts.criterion.parts):
            yield _between(before, cut, part / parts.criterion.parts)
        yield cut
        before = cut


def _between(before: Goal, after: Goal, way: float) -> Goal:
    """So far along the way from one goal to the next."""
    first = before.overrides
    overrides = {
        name: first.get(name, 0.0) * (1.0 - way) + share * way for name, share in after.overrides.items()
    }
    return Goal(before.sparsity * (1.0 - way) + after.sparsity * way, overrides)


def _select(
    parts: Parts,
    network: Network,
    graph: Graph,
    goal: Goal,
    context: Context,
    data: Dataset | None,
    *,
    histograms: bool,
) -> Plan:
    shares = None
    if _by_share(parts):
        first = _Selection(parts, network, graph, quietly(context), data).plan(goal)
        shares = {
            layer.layer: 1.0 - np.count_nonzero(layer.keep) / max(layer.keep.size, 1)
            for layer in first.layers
        }
    selection = _Selection(parts, network, graph, context, data, shares=shares)
    return selection.plan(goal, histograms=histograms)


def _by_share(parts: Parts) -> bool:
    return parts.criterion.by_share and parts.granularity.single_weights


@final
class _Selection:
    """The blocks of one network and their scores, from which goals become plans."""

    def __init__(
        self,
        parts: Parts,
        network: Network,
        graph: Graph,
        context: Context,
        data: Dataset | None = None,
        *,
        shares: Mapping[str, float] | None = None,
        remember: bool = False,
    ) -> None:
        self._parts, self._graph, self._context, self._remember = parts, graph, context, remember
        self._blocks = parts.granularity.blocks(graph)
        pattern = parts.granularity.pattern
        subject = Subject(network, graph, graph.layers, context.seed, data, context, shares, pattern)
        self._scorer = parts.criterion.scorer(subject)
        self._scores = Shelf[str](context.scratch)

    def plan(self, goal: Goal, *, histograms: bool = False) -> Plan:
        """What every layer keeps."""
        parts, context = self._parts, self._context
        ranking = Ranking(
            blocks=self._blocks,
            score=self._score,
            choose=parts.granularity.choose,
            settle=_settler(parts, self._graph, self._scorer),
            sequence=_sequence(parts, self._graph, self._blocks),
            goal=Goal(goal.sparsity, block_shares(self._graph, self._blocks, goal.overrides)),
            degree=parts.criterion.degree,
            threads=context.threads,
            done=lambda done, total: context.progress(done, total, "layers"),
            histograms=histograms,
        )
        plan = parts.granularity.plan(self._graph, self._blocks, parts.allocation.select(ranking))
        return replace(plan, goal=goal)

    def _score(self, block: Block) -> Scores:
        if not self._remember:
            return self._parts.granularity.pool(block, self._scorer.score)
        if block.name not in self._scores:
            pooled = self._parts.granularity.pool(block, self._scorer.score)
            self._scores[block.name] = pooled
        return self._scores[block.name]


def _sequence(parts: Parts, graph: Graph, blocks: Sequence[Block]) -> list[Block] | None:
    """The criterion's order of layers as an order of blocks."""
    layers = parts.criterion.sequence(graph.layers)
    if layers is None:
        return None
    place = {layer.name: position for position, layer in enumerate(layers)}
    return sorted(blocks, key=lambda block: min(place[layer.name] for layer in block.layers))


def _settler(parts: Parts, graph: Graph, scorer: Scorer) -> Callable[[Block, BlockPlan], None]:
    """Tells a criterion that scores in sequence what each layer of a block keeps; others need not know."""
    if parts.criterion.sequence(graph.layers) is None:
        return lambda _block, _plan: None

    def settle(block: Block, plan: BlockPlan) -> None:
        found = parts.granularity.plan(graph, [block], {block.name: plan})
        for layer in block.layers:
            scorer.settle(layer, found.of(layer.name).keep)

    return settle
