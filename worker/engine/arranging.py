"""Channels are put in a better order before anything is cut, if the recipe's units ask for it and the runtime
agrees that the function stays what it was."""

import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from api_schemas.jobs import Stage
from api_schemas.report import CheckResult
from worker.engine.case import Case
from worker.engine.context import quietly
from worker.engine.criteria.base import Subject
from worker.engine.formats.base import Network
from worker.engine.granularity.base import Arrangement, Gain
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import constants_in
from worker.engine.graph.layer import Layer
from worker.engine.graph.permutation import inverse, reorder
from worker.engine.planning import analyse
from worker.engine.verify.examine import Examined, prove_same
from worker.engine.verify.promises import Orders


@final
@dataclass(frozen=True)
class Arranged:
    """The case as it goes on: its model is the file in the new order, and `orders` say what that is."""

    case: Case
    graph: Graph
    orders: Orders = field(default_factory=dict)
    proofs: tuple[CheckResult, ...] = ()


def arranged(case: Case, network: Network, graph: Graph) -> Arranged:
    """Put the network's channels in a better order. It stays as it is where none is asked for, and, with a
    warning, where none is found or the runtime disagrees."""
    if not case.parts.granularity.reorders:
        return Arranged(case, graph)
    found = _searched(case, network, graph)
    if not found.orders:
        case.context.warn("channels stay in their order: none was found in which the patterns keep more")
        return Arranged(case, graph)
    reorder(network, found.orders)
    model = Path(tempfile.mkdtemp(prefix="arranged-", dir=case.context.scratch)) / f"arranged{network.suffix}"
    network.save(model)
    proof = _proof(case, model)
    if not proof.passed:
        case.context.warn(f"channels stay in their order: {proof.detail}")
        reorder(network, inverse(found.orders))
        return Arranged(case, graph)
    again = analyse(network, case.inputs, case.recipe, quietly(case.context))
    noted = replace(again, layers=tuple(_noted(layer, found.gains) for layer in again.layers))
    return Arranged(replace(case, model=model), noted, _numbered(found, network), (proof,))


def _searched(case: Case, network: Network, graph: Graph) -> Arrangement:
    units = case.parts.granularity
    with case.context.stage(Stage.SCORING):
        subject = Subject(
            network,
            graph,
            graph.layers,
            case.context.seed,
            case.rows.learning,
            case.context,
            shares={layer.name: units.sparsity or 0.0 for layer in graph.layers},
            pattern=units.pattern,
        )
        score = case.parts.criterion.scorer(subject).score
        return units.arranged(graph, network, score, case.context.seed)


def _proof(case: Case, model: Path) -> CheckResult:
    with case.context.stage(Stage.VERIFYING):
        return prove_same(Examined(case.model, model.name, model, case.inputs, case.data), case.context)


def _noted(layer: Layer, gains: Mapping[str, Gain]) -> Layer:
    gain = gains.get(layer.name)
    before, after = ("", "") if gain is None else (f"{gain.before:.2%}", f"{gain.after:.2%}")
    if before == after:
        return layer
    note = f"its inputs were reordered: {after} of the score is kept, {before} before"
    return replace(layer, notes=(*layer.notes, note))


def _numbered(found: Arrangement, network: Network) -> Orders:
    """The orders by the place of the tensor in the file: they are held against other loads of it."""
    place = {value: number for number, value in enumerate(constants_in(network.structure))}
    orders = defaultdict(list)
    for item in found.orders:
        orders[place[item.value]].append((item.axis, item.order))
    return {number: tuple(steps) for number, steps in orders.items()}
