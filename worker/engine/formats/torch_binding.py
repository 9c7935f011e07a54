"""Ties an exported graph to the archive: its tensors become initializers with the archive's names."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from worker.engine.formats.onnx import stored_tensor
from worker.engine.formats.torch_layers import initializer
from worker.engine.formats.torch_names import TensorNames

#: Constants of fewer elements are numbers of the code that may equal a parameter by chance.
_LEAST = 2


def bind(structure: ir.Model, names: TensorNames) -> dict[ir.Value, str]:
    """Replace tensors that are the archive's by initializers of their names; returns those with their names.

    A tensor that the exporter computed, or that equals several of the archive, stays as it is.
    """
    found = list(_named(structure, names))
    for value, _ in found:
        if value.is_initializer() and value.graph is not None:
            value.graph.initializers.pop(value.name or "")
    stored: dict[str, ir.Value] = {}
    for value, name in found:
        if name not in stored:
            stored[name] = initializer(name, names)
            structure.graph.register_initializer(stored[name])
        ir.convenience.replace_all_uses_with(value, stored[name], replace_graph_outputs=True)
    return {value: name for name, value in stored.items()}


def _named(structure: ir.Model, names: TensorNames) -> Iterator[tuple[ir.Value, str]]:
    for value in _candidates(structure):
        tensor = stored_tensor(value)
        if tensor is None or (not value.is_initializer() and tensor.size < _LEAST):
            continue
        name = names.find(np.asarray(tensor.numpy()), value.name or "" if value.is_initializer() else "")
        if name is not None:
            yield value, name


def _candidates(structure: ir.Model) -> Iterator[ir.Value]:
    for graph in structure.graphs():
        yield from graph.initializers.values()
    for node in structure.graph.all_nodes():
        if node.op_type == "Constant":
            yield node.outputs[0]


def in_use(stored: Mapping[ir.Value, str]) -> dict[ir.Value, str]:
    """Those of `stored` that the graph still reads."""
    return {value: name for value, name in stored.items() if value.uses()}
