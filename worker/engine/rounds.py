"""Rounds: score, cut and heal until a goal is reached. Channels leave the file in the last round only; before
that they are zeros, so that every round works on the analysis of the upload."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from api_schemas.jobs import Stage
from api_schemas.report import CheckResult, RecoveryReport
from worker.engine import formats
from worker.engine.apply.mask import Mask
from worker.engine.arranging import arranged
from worker.engine.case import Case
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import constants_in
from worker.engine.planning import analyse, select
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.healing import heal_by
from worker.engine.schedule.base import NOTHING
from worker.engine.types import Goal, Plan
from worker.engine.verify.examine import Examined, prove_equal
from worker.engine.verify.promises import Orders, Promise


@final
@dataclass(frozen=True)
class Carried:
    """What came of a goal: the network, the last plan, and what was proved on the way, before training."""

    network: Network
    plan: Plan
    proofs: tuple[CheckResult, ...] = ()
    #: The analysis that was planned on, where channels were put in another order first, and that order.
    graph: Graph | None = None
    orders: Orders = field(default_factory=dict)


def carry_out(case: Case, network: Network, graph: Graph, goal: Goal) -> Carried:
    """Reach the goal in as many rounds as the schedule has. `network` is written to."""
    first = arranged(case, network, graph)
    carried = _in_rounds(first.case, network, first.graph, goal)
    proofs = (*first.proofs, *carried.proofs)
    return replace(carried, proofs=proofs, graph=first.graph, orders=first.orders)


def _in_rounds(case: Case, network: Network, graph: Graph, goal: Goal) -> Carried:
    case.context.healed.clear()  # of a goal that was tried before and given up
    *earlier, last = case.parts.schedule.steps(goal)
    before, done = NOTHING, _resumed(case, network)
    for number, step in enumerate(earlier, 1):
        if number > done:
            with case.context.checkpoints.scope(f"round-{number}"):
                plan = _selected(case, network, graph, step, before)
                _masked(case, network, graph, plan)
                _heal(case, case.course, network, graph)
            _keep(case, network, number)
        before = step
    with case.context.checkpoints.scope("last-round"):
        return _last_round(case, network, graph, _selected(case, network, graph, last, before))


def _last_round(case: Case, network: Network, graph: Graph, plan: Plan) -> Carried:
    if case.shrinks:
        return _shrunk(case, network, graph, plan)
    with case.context.stage(Stage.APPLYING):
        network = case.parts.apply.apply(plan, graph, network, case.context.scratch)
    _heal(case, case.course, network, graph)
    return Carried(network, plan)


def _keep(case: Case, network: Network, rounds: int) -> None:
    """Checkpoint: so many rounds are done, and this is what they left."""
    if not case.course:  # without healing a round is gone through again faster than it is kept
        return
    with tempfile.TemporaryDirectory(prefix="round-", dir=case.context.scratch) as folder:
        path = Path(folder) / f"network{network.suffix}"
        network.save(path)
        told = [report.model_dump(mode="json") for report in case.context.healed]
        case.context.checkpoints.save({"rounds": rounds, "healed": told}, {path.name: path}, forced=True)


def _resumed(case: Case, network: Network) -> int:
    """How many rounds an earlier attempt has done; the network gets the weights that they left."""
    saved = case.context.checkpoints.load() if case.course else None
    if saved is None:
        return 0
    left = formats.load(next(iter(saved.files.values())), case.options)
    pairs = zip(constants_in(network.structure), constants_in(left.structure), strict=True)
    for mine, theirs in pairs:
        array = left.read(theirs)
        if network.writable(mine) and array.tobytes() != network.read(mine).tobytes():
            network.write(mine, array)
    case.context.healed[:] = [RecoveryReport.model_validate(told) for told in saved.state["healed"]]
    return int(saved.state["rounds"])


def _selected(case: Case, network: Network, graph: Graph, goal: Goal, before: Goal) -> Plan:
    with case.context.stage(Stage.SCORING):
        data = case.rows.learning
        return select(case.parts, network, graph, goal, case.context, before=before, data=data)


def _masked(case: Case, network: Network, graph: Graph, plan: Plan) -> None:
    with case.context.stage(Stage.APPLYING):
        Mask().apply(plan, graph, network, case.context.scratch)


def _shrunk(case: Case, network: Network, graph: Graph, plan: Plan) -> Carried:
    """The smaller network. Where something heals, it is compared with the full one before training parts
    change it: afterwards nothing could be told."""
    course = case.course
    if course:
        _masked(case, network, graph, plan)
        _heal(case, [part for part in course if part.before_shrinking], network, graph)
    with case.context.stage(Stage.APPLYING):
        small = case.parts.apply.apply(plan, graph, network, case.context.scratch)
    if not course:
        return Carried(small, plan)
    proof = _proof(case, Promise(network, graph, plan, shrinks=True), small)
    training = [part for part in course if not part.before_shrinking]
    if training:
        _heal(case, training, small, analyse(small, case.inputs, case.recipe, case.context))
    return Carried(small, plan, (proof,))


def _heal(case: Case, course: Sequence[Recovery], network: Network, graph: Graph) -> None:
    if not course:
        return
    with case.context.stage(Stage.RECOVERING):
        for part in course:
            with case.context.checkpoints.scope(part.name):
                heal_by(part, _pruned(case, network, graph), case.context)


def _pruned(case: Case, network: Network, graph: Graph) -> Pruned:
    """Weights that are zero now stay zero, whichever cut or training before the upload made them so."""
    masks = {layer.view.value: network.read(layer.view.value) != 0 for layer in graph.layers}
    return Pruned(
        network=network,
        graph=graph,
        original=formats.load(case.model, case.options),
        masks={value: mask for value, mask in masks.items() if not mask.all()},
        data=case.rows.learning,
        validation=case.rows.measured,
        inputs=case.inputs,
    )


def _proof(case: Case, promise: Promise, small: Network) -> CheckResult:
    """The smaller network against the full one that it was taken from."""
    folder = Path(tempfile.mkdtemp(prefix="proof-", dir=case.context.scratch))
    full, shrunk = folder / f"full{small.suffix}", folder / f"shrunk{small.suffix}"
    promise.network.save(full)
    small.save(shrunk)
    with case.context.stage(Stage.VERIFYING):
        return prove_equal(Examined(full, full.name, shrunk, case.inputs, case.data), promise, case.context)
