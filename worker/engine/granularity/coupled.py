"""Units that leave the file: coupled over the layers that share them, each with all weights that it holds."""

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from pydantic import Field

from worker.engine.granularity.base import Block, Granularity, ScoreLayer
from worker.engine.granularity.selection import largest
from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap, Source
from worker.engine.graph.groups import ChannelGroup, couple
from worker.engine.graph.kept import Kept
from worker.engine.graph.layer import Layer
from worker.engine.types import BlockPlan, LayerPlan, Mask, Plan, Scores


@final
@dataclass(frozen=True, eq=False)
class ChannelBlock(Block):
    """A group of coupled channels."""

    group: ChannelGroup


class Coupled(Granularity, abc.ABC):
    """Granularities whose blocks are groups of coupled channels."""

    round_to: int = Field(default=1, ge=1, le=1024)
    """Keep a multiple of so many units per group, where the group is wide enough."""
    minimum: int = Field(default=1, ge=1)
    """Keep at least so many units per group."""

    def pool(self, block: Block, score: ScoreLayer) -> Scores:
        """Sum, over the layers that make a unit, of the scores of the weights that make it."""
        group = _group(block)
        total = np.zeros(group.units)
        for layer in block.layers:
            scores = score(layer)
            finite = np.where(np.isfinite(scores), scores, 0.0)
            per_output = finite.reshape(*finite.shape[:2], -1).sum(axis=2).reshape(-1)
            for use in layer.uses[:1]:
                members = (
                    group.members[use.source] if use.source is not None else np.full(per_output.size, -1)
                )
                np.add.at(total, members[members >= 0], per_output[members >= 0])
        return total

    def choose(self, block: Block, scores: Scores, count: int) -> tuple[Mask, float | None]:
        return largest(scores, self.width(scores.size, count))

    def width(self, units: int, count: int) -> int:
        """The wanted count, rounded to the nearest multiple of `round_to` that is no less than `minimum`.

        A group that need not lose any stays whole, so that a width found once is found again.
        """
        if count >= units or units < self.round_to:
            return min(units, max(self.minimum, count))
        least = math.ceil(self.minimum / self.round_to) * self.round_to
        return min(units, max(least, round(count / self.round_to) * self.round_to))

    def plan(self, graph: Graph, blocks: Sequence[Block], plans: Mapping[str, BlockPlan]) -> Plan:
        chosen = [(_group(block), plans[block.name].units) for block in blocks]
        kept = with_something_everywhere(graph, chosen)
        named = {layer.name: plans[block.name] for block in reversed(blocks) for layer in block.layers}
        layers = tuple(_layer_plan(kept, layer, named.get(layer.name)) for layer in graph.layers)
        channels = (replace(plans[group.name], units=units) for group, units in chosen)
        return Plan(layers, tuple(channels))


def kept_channels(graph: Graph, plan: Plan) -> Kept:
    """What is left of every tensor by a plan of this granularity."""
    groups = {group.name: group for group in couple(graph).groups}
    return Kept(graph, _kept_units([(groups[item.block], item.units) for item in plan.channels]))


def with_something_everywhere(graph: Graph, chosen: list[tuple[ChannelGroup, Mask]]) -> Kept:
    """What is kept; where a tensor (a small part of a Split, say) would lose every channel, one comes back.

    `chosen` is changed in place.
    """
    kept = Kept(graph, _kept_units(chosen))
    for channels in graph.maps.values():
        if isinstance(channels, ChannelMap) and 0 not in channels.sizes and not kept.grid(channels).any():
            _bring_back(channels, chosen)
            kept = Kept(graph, _kept_units(chosen))
    return kept


def _bring_back(channels: ChannelMap, chosen: list[tuple[ChannelGroup, Mask]]) -> None:
    """Keep the unit at the map's first index."""
    term = next(term for term in channels.terms if (term.units >= 0).any())
    unit = int(term.units[term.units >= 0][0])
    for place, (group, units) in enumerate(chosen):
        members = group.members.get(term.source)
        if members is not None and members[unit] >= 0:
            again = units.copy()
            again[members[unit]] = True
            chosen[place] = (group, again)


def _group(block: Block) -> ChannelGroup:
    if not isinstance(block, ChannelBlock):
        raise TypeError("a block of another granularity")
    return block.group


def _kept_units(chosen: Iterable[tuple[ChannelGroup, Mask]]) -> dict[Source, Mask]:
    """Kept units of every source; frozen ones always stay. A source may have units in several groups."""
    found: dict[Source, Mask] = {}
    for group, units in chosen:
        for source, members in group.members.items():
            keep = np.where(members >= 0, units[members], True)
            found[source] = keep & found.get(source, np.True_)
    return found


def _layer_plan(kept: Kept, layer: Layer, plan: BlockPlan | None) -> LayerPlan:
    """What stays of a weight: kept outputs by kept inputs."""
    full = kept.weights(layer.uses[0])
    if plan is None:
        return LayerPlan(layer.name, full, None)
    return LayerPlan(layer.name, full, plan.requested, plan.threshold, plan.scores)
