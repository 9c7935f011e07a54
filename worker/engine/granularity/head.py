"""Whole attention heads."""

from typing import ClassVar, final

from worker.engine.errors import InvalidRecipeError, NothingPrunableError
from worker.engine.granularity.base import Block
from worker.engine.granularity.coupled import ChannelBlock, Coupled
from worker.engine.graph.analysis import Graph
from worker.engine.graph.groups import ChannelGroup, couple


@final
class Head(Coupled):
    """Attention heads go as a whole: the rows of query, key and value that make a head and the columns of the
    projection that read it. Where several query heads share a key and value head they go together with it;
    where all share one it stays, and they go alone. All else stays. The file really gets smaller. A target in
    `sparsity` is the share of heads removed from every attention."""

    name: ClassVar[str] = "head"
    whole_heads: ClassVar[bool] = True

    def blocks(self, graph: Graph) -> tuple[Block, ...]:
        if not graph.heads:
            raise InvalidRecipeError(
                "the model has no attention with heads that can be followed, which granularity 'head' needs",
                hint='use "granularity": {"name": "channel"}',
            )
        coupling = couple(graph)
        groups = [group for group in coupling.groups if _holds_heads(group, graph)]
        if not groups:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(coupling.frozen.items())[:3])
            raise NothingPrunableError(f"no attention head can be removed from the model ({reasons})")
        return tuple(ChannelBlock(group.name, group.layers, group) for group in groups)


def _holds_heads(group: ChannelGroup, graph: Graph) -> bool:
    """True when the group's units are heads of some attention, and more than one."""
    terms = [term for heads in graph.heads for term in heads.terms if term.source in group.members]
    return group.units > 1 and any((group.members[term.source][term.units] >= 0).any() for term in terms)
