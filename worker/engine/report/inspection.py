"""What inspection answers: inputs, outputs, layers, and why a layer cannot be pruned."""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir

from api_schemas.models import ChannelGroup, Inspection, LayerInfo
from worker.engine.formats.base import Network
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import constants_in
from worker.engine.graph.groups import couple
from worker.engine.graph.layer import Layer


def inspection_of(network: Network, graph: Graph) -> Inspection:
    """The inspection of a loaded and analysed network."""
    stored, _ = count_parameters(network, graph)
    warnings = [network.structure_warning] if network.structure_warning else []
    return Inspection(
        format=network.format,
        opset=network.opset,
        producer=network.producer,
        inputs=list(network.inputs),
        outputs=list(network.outputs),
        parameters=stored,
        macs=dense_macs(graph),
        layers=[_layer_info(network, layer) for layer in (*graph.layers, *graph.refused)],
        groups=list(_groups(graph)),
        warnings=warnings,
    )


def _layer_info(network: Network, layer: Layer) -> LayerInfo:
    return LayerInfo(
        name=layer.name,
        op=layer.op,
        weight=layer.weight,
        shape=list(layer.shape),
        parameters=layer.size,
        zeros=weights.count_zeros(network, layer.view),
        prunable=layer.reason is None,
        reason=layer.reason,
    )


def _groups(graph: Graph) -> Iterator[ChannelGroup]:
    """Coupled channels, and layers whose channels must all stay, with the reason."""
    coupling = couple(graph)
    for group in coupling.groups:
        names = [layer.name for layer in group.layers]
        yield ChannelGroup(name=group.name, channels=group.units, layers=names)
    for layer in graph.layers:
        source = layer.uses[0].source if layer.uses else None
        if layer.name in coupling.frozen and source is not None:
            reason = coupling.frozen[layer.name]
            yield ChannelGroup(
                name=layer.name, channels=source.units, layers=[layer.name], frozen_reason=reason
            )


def dense_macs(graph: Graph) -> int | None:
    """Multiply-accumulates of all layers for one sample; None when one of them is not known."""
    return _total(layer.macs for layer in (*graph.layers, *graph.refused) if layer.uses)


def _total(counts: Iterable[int | None]) -> int | None:
    found = list(counts)
    return None if None in found else sum(count or 0 for count in found)


def count_parameters(network: Network, graph: Graph) -> tuple[int, int]:
    """(stored, non-zero) numbers of the file: every stored float tensor, and quantised weights of layers."""
    quantised = {x.view.value: x for x in (*graph.layers, *graph.refused) if x.view.quantization is not None}
    total = nonzero = 0
    for value in constants_in(network.structure):
        if value in quantised:
            view = quantised[value].view
            size = int(np.prod(view.shape))
            total, nonzero = total + size, nonzero + size - weights.count_zeros(network, view)
        elif _is_float(value) and network.writable(value):
            stored = network.read(value)
            total, nonzero = total + int(stored.size), nonzero + int(np.count_nonzero(stored))
    return total, nonzero


def _is_float(value: ir.Value) -> bool:
    dtype = weights.stored_dtype(value)
    return dtype is not None and dtype.is_floating_point()
