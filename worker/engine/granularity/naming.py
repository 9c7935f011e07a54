"""Which blocks a recipe's `layers` mean: a block's own name, or the name of a layer whose units it holds."""

from collections.abc import Mapping, Sequence

from worker.engine.errors import InvalidRecipeError
from worker.engine.granularity.base import Block
from worker.engine.graph.analysis import Graph
from worker.engine.graph.candidates import named_shares


def block_shares(graph: Graph, blocks: Sequence[Block], shares: Mapping[str, float]) -> dict[str, float]:
    """The recipe's shares by block name.

    A block's own name wins; any other name is a layer's (or its weight's) and means every block that holds
    units of the layer. InvalidRecipeError for unknown names, layers without units, and layers that share
    their units but not the share.
    """
    own = {block.name: shares[block.name] for block in blocks if block.name in shares}
    known = {layer.name for layer in graph.layers}
    layers = named_shares(graph, {name: s for name, s in shares.items() if name in known or name not in own})
    found: dict[str, tuple[str, float]] = {}
    for name, share in layers.items():
        inside = [block for block in blocks if any(layer.name == name for layer in block.layers)]
        if not inside and share > 0.0:
            raise InvalidRecipeError(
                f"no units of layer {name!r} can go: inspection lists the groups that can"
            )
        for block in inside:
            first, known_share = found.setdefault(block.name, (name, share))
            if known_share != share and block.name not in own:
                raise InvalidRecipeError(
                    f"layers {first!r} and {name!r} share their units (group {block.name!r}): "
                    "give them one sparsity"
                )
    return {**{block: share for block, (_, share) in found.items()}, **own}
