"""Channels that a file's code cannot be followed without: found by trying, and left where they are.

Of an ONNX graph everything can be told beforehand. Code is followed operator by operator, and where that
fails for some channels the others can still go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from worker.engine.formats.base import Network
from worker.engine.granularity.coupled import with_something_everywhere
from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap, Ints, Source, Term
from worker.engine.graph.groups import ChannelGroup, couple
from worker.engine.graph.layer import Frozen
from worker.engine.graph.surgery import operate

#: Tries after which whatever is still in doubt stays.
_MOST_TRIES = 100


def followed(graph: Graph, network: Network) -> Graph:
    """The graph with groups frozen of which the network's code cannot lose a half, each with the reason."""
    trial = _Trial(graph, network)
    groups = couple(graph).groups
    reason = trial.refusal(groups)
    if reason is None:
        return graph
    whole = trial.refusal(())
    found = dict.fromkeys(groups, whole) if whole is not None else trial.failing(groups, reason)
    frozen = [Frozen(_map(s, m), why) for g, why in found.items() for s, m in g.members.items()]
    return replace(graph, frozen=(*graph.frozen, *frozen))


class _Trial:
    """Takes half of the units of some groups, on paper."""

    def __init__(self, graph: Graph, network: Network) -> None:
        self._graph, self._network, self._left = graph, network, _MOST_TRIES

    def refusal(self, groups: Sequence[ChannelGroup]) -> str | None:
        """Why these groups cannot go together; None where they can."""
        self._left -= 1
        chosen = [(group, np.arange(group.units) % 2 == 0) for group in groups]
        kept = with_something_everywhere(self._graph, chosen)
        return self._network.refusal(list(operate(self._graph, self._network, kept)))

    def failing(self, groups: Sequence[ChannelGroup], reason: str) -> Mapping[ChannelGroup, str]:
        """Those that must stay, of groups that cannot go together for that reason."""
        if len(groups) < 2 or self._left <= 0:
            return dict.fromkeys(groups, reason)
        half = len(groups) // 2
        found: dict[ChannelGroup, str] = {}
        for part in (groups[:half], groups[half:]):
            why = self.refusal(part)
            found |= {} if why is None else self.failing(part, why)
        rest = [group for group in groups if group not in found]
        why = self.refusal(rest)
        return found if why is None else {**found, **dict.fromkeys(rest[half:] or rest, why)}


def _map(source: Source, members: Ints) -> ChannelMap:
    """The source's units that are of the group."""
    return ChannelMap(
        (0,), (source.units,), (Term(source, np.where(members >= 0, np.arange(source.units), -1)),)
    )
