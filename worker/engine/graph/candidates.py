"""Which layers a recipe may touch: exclusions become refusals with the glob that made them."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from worker.engine.errors import InvalidRecipeError, NothingPrunableError
from worker.engine.graph.analysis import Graph
from worker.engine.graph.layer import Layer

_SHOWN = 3
_EXCLUDED = "excluded by the recipe"


def narrowed(graph: Graph, exclude: Sequence[str], warn: Callable[[str], None]) -> Graph:
    """The graph with excluded layers among the refused. A glob matches a layer's, weight's or node's name."""
    require_layers(graph)
    kept: list[Layer] = []
    out: list[Layer] = []
    used: set[str] = set()
    for layer in graph.layers:
        glob = next((pattern for pattern in exclude if _matches(layer, pattern)), None)
        if glob is None:
            kept.append(layer)
        else:
            used.add(glob)
            out.append(replace(layer, reason=f"{_EXCLUDED} ({glob})"))
    for pattern in exclude:
        if not any(_matches(layer, pattern) for layer in (*graph.layers, *graph.refused)):
            warn(f"exclude {pattern!r} matches no layer")
    if not kept:
        raise InvalidRecipeError("the recipe excludes every layer that could be pruned")
    return replace(graph, layers=tuple(kept), refused=(*graph.refused, *out))


def is_excluded(layer: Layer) -> bool:
    """True for a layer that the recipe excludes."""
    return layer.reason is not None and layer.reason.startswith(_EXCLUDED)


def fitted(graph: Graph, fit: Callable[[Layer], Layer]) -> Graph:
    """The graph with layers that `fit` gives a reason among the refused; NothingPrunableError if all are."""
    layers = [fit(layer) for layer in graph.layers]
    kept = tuple(layer for layer in layers if layer.reason is None)
    out = tuple(layer for layer in layers if layer.reason is not None)
    narrower = replace(graph, layers=kept, refused=(*graph.refused, *out))
    require_layers(narrower)
    return narrower


def require_layers(graph: Graph, warning: str | None = None) -> None:
    """NothingPrunableError, with the reasons, when the graph has no layer that could be pruned."""
    if not graph.layers:
        reasons = _nothing(graph) if warning is None else f"{_nothing(graph)}; {warning}"
        raise NothingPrunableError(reasons, hint="inspection lists every layer with its reason")


def named_shares(graph: Graph, shares: Mapping[str, float]) -> dict[str, float]:
    """The recipe's shares by layer name. A key may also be the weight's name, or a glob over both; a key that
    names a layer exactly wins. Keys that name nothing are an error."""
    by_name = {name: layer for layer in graph.layers for name in (layer.weight, layer.name)}
    refused = {name: layer for layer in graph.refused for name in (layer.weight, layer.name)}
    found: dict[str, float] = {}
    for name, share in shares.items():
        if name in by_name:
            found[by_name[name].name] = share
        elif name in refused:
            raise InvalidRecipeError(f"layer {name!r} cannot be pruned: {refused[name].reason}")
        elif fitting := [layer for layer in graph.layers if _matches(layer, name)]:
            for layer in fitting:
                found.setdefault(layer.name, share)
        else:
            raise InvalidRecipeError(f"there is no layer {name!r}{_near(name, list(by_name))}")
    return found


def _matches(layer: Layer, pattern: str) -> bool:
    names = {layer.name, layer.weight, *(use.node.name or "" for use in layer.uses)}
    return any(name and fnmatchcase(name, pattern) for name in names)


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=_SHOWN)
    return f"; did you mean {', '.join(map(repr, near))}?" if near else ""


def _nothing(graph: Graph) -> str:
    if not graph.refused:
        return "the model holds no weight matrix or convolution: there is nothing to prune"
    reasons = "; ".join(f"{layer.name}: {layer.reason}" for layer in graph.refused[:_SHOWN])
    more = f"; and {len(graph.refused) - _SHOWN} more" if len(graph.refused) > _SHOWN else ""
    return f"nothing in the model can be pruned ({reasons}{more})"
