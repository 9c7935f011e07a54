"""Lookahead factors of convolutions between convolutions, by autocorrelation of their kernels.

Energies forget where a kernel's weights lie. Exactly, for stride 1 and circular padding, the change of the
product of three layers is n · w² · Σ_Δ ρ_in(Δ) · ρ_out(Δ) over all lags Δ, n the size of the map and ρ the
autocorrelation of the kernels that make a weight's input, and of those that read its output. Lag 0 alone is
the published score (our derivation; reference page §1.3).
"""

from collections import defaultdict
from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import Floats, Source, Term
from worker.engine.graph.constants import attribute
from worker.engine.graph.energies import Array, Link, Weigh
from worker.engine.graph.layer import Layer, LayerUse

_CONVOLUTIONS = {"Conv", "QLinearConv"}
#: Operators that leave every position of a map where it is.
_POINTWISE = {
    *(
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Sum",
        "BatchNormalization",
        "Identity",
        "Cast",
        "Dropout",
        "Concat",
        "Split",
    ),
    *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Swish", "Mish", "Gelu"),
    *("Elu", "Selu", "Celu", "Tanh", "Softplus", "Softsign", "QuantizeLinear", "DequantizeLinear"),
}


class Correlations:
    """Factors by all lags. Lag 0 alone counts wherever more is not defined: strides and dilations, pooling
    or any other move of positions between the layers, layers that are no convolutions."""

    def __init__(self, graph: Graph, along: Sequence[Link], weigh: Weigh, *, slopes: bool = True) -> None:
        self._weigh, self._slopes = weigh, slopes
        uses = [use for layer in (*graph.layers, *graph.refused) for use in layer.uses]
        self._makers = {use.source: use for use in uses if use.source is not None}
        self._nodes = {use.node for use in uses}
        self._incoming = {link.use: link for link in along if link.use is not None}
        self._readers: dict[Source, list[tuple[Term, Link]]] = defaultdict(list)
        for link in along:
            for term in link.terms:
                self._readers[term.source].append((term, link))
        self._known: dict[tuple[LayerUse, bool], Floats] = {}

    def forget(self, layer: Layer) -> None:
        """Recompute this layer's correlations when they are next needed."""
        for use in layer.uses:
            for of_inputs in (False, True):
                self._known.pop((use, of_inputs), None)

    def factor(self, use: LayerUse) -> Floats:
        """Σ_Δ ρ_in · ρ_out, shape (groups, outputs / group, inputs / group)."""
        before, after = self._before(use), self._after(use)
        rank = before.ndim - 1 if before.ndim == after.ndim and _stationary(use.node) else 0
        both = before.shape[1:], after.shape[1:]
        lags = tuple(min(pair) for pair in zip(*both, strict=True)) if rank else ()
        rho_in = _fitted(before, lags).reshape(before.shape[0], -1)[use.inputs]
        rho_out = _fitted(after, lags).reshape(after.shape[0], -1)[use.outputs]
        found: Floats = np.maximum(rho_out @ np.swapaxes(rho_in, 1, 2), 0.0)
        return found

    def _before(self, use: LayerUse) -> Floats:
        """ρ of what makes each flat index that the use reads, shape (indices, *lags)."""
        link = self._incoming.get(use)
        if link is None:
            return np.ones(int(use.inputs.max()) + 1)
        count, aligned = prod(link.channels.sizes), self._aligned(link)
        total = np.zeros(count)
        for term in link.terms:
            if not term.source.empty:
                total = _sum(total, self._carried(term, aligned=aligned))
        return total

    def _after(self, use: LayerUse) -> Floats:
        """ρ of what reads each unit that the use makes, shape (units, *lags)."""
        readers = self._readers.get(use.source, []) if use.source is not None else []
        if use.source is None or not readers:
            return np.ones(int(use.outputs.max()) + 1)
        total = np.zeros(use.source.units)
        for term, link in readers:
            wanted, units = self._wanted(link), term.units.reshape(-1)
            present = units >= 0
            spread = np.zeros((use.source.units, *wanted.shape[1:]))
            np.add.at(spread, units[present], (wanted * self._squared(term, wanted))[present])
            total = _sum(total, spread)
        return total

    def _carried(self, term: Term, *, aligned: bool) -> Floats:
        maker, units = self._makers.get(term.source), term.units.reshape(-1)
        rho = np.ones(term.source.units) if maker is None else self._of(maker, of_inputs=False)
        rho = (rho if aligned else _fitted(rho, ()))[units]
        return np.where(_column(units >= 0, rho), rho * self._squared(term, rho), 0.0)

    def _wanted(self, link: Link) -> Floats:
        """ρ with which a reader takes each index of the link."""
        count = prod(link.channels.sizes)
        if link.use is None:
            return np.ones(count)
        rho = self._of(link.use, of_inputs=True)
        rho = rho if self._aligned(link) else _fitted(rho, ())
        wanted = np.zeros((count, *rho.shape[1:]))
        np.add.at(wanted, link.use.inputs.reshape(-1), rho)
        return wanted

    def _squared(self, term: Term, like: Floats) -> Floats | float:
        if term.slope is None or not self._slopes:
            return 1.0
        return _column(np.square(term.slope).reshape(-1), like)

    def _of(self, use: LayerUse, *, of_inputs: bool) -> Floats:
        """ρ of a layer's own kernels per output or per input unit, groups merged."""
        key = (use, of_inputs)
        if key not in self._known:
            weight = self._weigh(use).astype(np.float64)
            kernels = np.swapaxes(weight, 1, 2) if of_inputs else weight
            kernels = kernels.reshape(-1, *kernels.shape[2:])
            if not _stationary(use.node):
                kernels = kernels.reshape(*kernels.shape[:1], -1)
            self._known[key] = autocorrelation(kernels)
        return self._known[key]

    def _aligned(self, link: Link) -> bool:
        """True when nothing between the reader and the layers that make what it reads moves positions."""
        return link.use is not None and _stationary(link.use.node) and self._unmoved(link.use.node.inputs[0])

    def _unmoved(self, value: ir.Value | None) -> bool:
        waiting, seen = [value], set[ir.Node]()
        while waiting:
            found = waiting.pop()
            node = found.producer() if found is not None else None
            if node is None or node in seen or node in self._nodes:
                continue
            if node.op_type not in _POINTWISE or attribute(node, "axis", 1) != 1:
                return False
            seen.add(node)
            waiting.extend(node.inputs)
        return True


def autocorrelation(kernels: Array) -> Floats:
    """Of kernels (units, others, *taps), summed over `others`: shape (units, *lags), lag 0 in the middle.

    Without taps the energy of each unit.
    """
    units, _, *taps = kernels.shape
    if not taps:
        energies: Floats = np.square(kernels).sum(axis=1)
        return energies
    lags = tuple(2 * size - 1 for size in taps)
    places = np.indices(taps).reshape(len(taps), -1)
    shift = places[:, :, None] - places[:, None, :] + (np.array(taps, int) - 1)[:, None, None]
    lag = np.ravel_multi_index(tuple(shift), lags).reshape(-1)
    flat = kernels.reshape(*kernels.shape[:2], -1)
    sums = [np.bincount(lag, (unit.T @ unit).reshape(-1), prod(lags)) for unit in flat]
    return np.array(sums).reshape(units, *lags)


def _stationary(node: ir.Node) -> bool:
    """A convolution that treats every position alike: stride 1, no dilation."""
    steps = [*attribute(node, "strides", ()), *attribute(node, "dilations", ())]
    return node.op_type in _CONVOLUTIONS and all(step == 1 for step in steps)


def _fitted(rho: Floats, lags: tuple[int, ...]) -> Floats:
    """Cut down to fewer lags around lag 0, or zeros around it; no lags at all: lag 0 alone."""
    if not lags:
        return rho[(slice(None), *(size // 2 for size in rho.shape[1:]))]
    if rho.ndim == 1:
        rho = rho.reshape(-1, *(1,) * len(lags))
    for axis, size in enumerate(lags, 1):
        more = (size - rho.shape[axis]) // 2
        if more >= 0:
            rho = np.pad(rho, [(more, more) if a == axis else (0, 0) for a in range(rho.ndim)])
        else:
            rho = np.take(rho, range(-more, rho.shape[axis] + more), axis=axis)
    return rho


def _sum(first: Floats, second: Floats) -> Floats:
    """The sum over the wider of both ranges of lags; lag 0 alone where they have different dimensions."""
    if first.ndim > 1 and second.ndim > 1 and first.ndim != second.ndim:
        first, second = _fitted(first, ()), _fitted(second, ())
    one, two = first.shape[1:], second.shape[1:]
    lags = tuple(max(pair) for pair in zip(one, two, strict=True)) if one and two else one or two
    return _fitted(first, lags) + _fitted(second, lags)


def _column(values: Array, like: Floats) -> Array:
    """Values per unit, shaped to go with ρ of each unit."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))
