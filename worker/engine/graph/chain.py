"""The published treatment of residual networks: one plain chain of layers, skip connections ignored.

Reference page §1.4: layers stand in the order of the graph, each next to the one before it on the main
path; 1×1 projections on a shortcut stay out of the chain (factor 1 on both sides).
"""

from dataclasses import replace

from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap, Source
from worker.engine.graph.energies import Link, links
from worker.engine.graph.layer import LayerUse


def chain_links(graph: Graph) -> list[Link]:
    """Links between neighbours of the chain only.

    Where branches join, the source that comes last in the order of the graph is the main path.
    """
    uses = [use for layer in graph.layers for use in layer.uses]
    skipped = _projections(uses)
    order = {
        use.source: i for i, use in enumerate(uses) if use.source is not None and use.source not in skipped
    }
    chain: list[Link] = []
    for link in links(graph):
        sources = [term.source for term in link.terms if term.source in order]
        if link.use is None or link.use.source in skipped or not sources:
            continue
        last = max(sources, key=lambda source: order[source])
        chain.append(replace(link, terms=tuple(term for term in link.terms if term.source is last)))
    return chain


def _projections(uses: list[LayerUse]) -> set[Source | None]:
    """Sources of 1×1 layers that read what another layer reads and are added to a longer branch."""
    joined = [_sources(use) for use in uses]
    found: set[Source | None] = set()
    for use in uses:
        beside = any(other is not use and _sources(other) == _sources(use) for other in uses)
        pointwise = all(size == 1 for size in use.view.seen_shape()[3:])
        if beside and pointwise and any(use.source in group and len(group) > 1 for group in joined):
            found.add(use.source)
    return found


def _sources(use: LayerUse) -> frozenset[Source]:
    return (
        frozenset(t.source for t in use.incoming.terms)
        if isinstance(use.incoming, ChannelMap)
        else frozenset()
    )
