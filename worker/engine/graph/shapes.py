"""Static shapes of every value, batch 1 where the file leaves the batch open."""

import logging
from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import _c_api_utils

from api_schemas.jobs import InputSpec, InputSpecs
from worker.engine.formats.onnx_files import import_all
from worker.engine.formats.onnx_tensors import all_graphs
from worker.engine.graph.observed import observe

_LOG = logging.getLogger(__name__)
#: Operators over maps, a type that onnx-ir cannot represent; where it is missing, inference would crash.
_READ_MAPS = {"CastMap", "DictVectorizer"}

Shape = tuple[int | None, ...]


class Shapes:
    """Shape look-up by value. Unknown dimensions are None, an unknown rank is None as a whole."""

    def __init__(self, by_name: Mapping[str, Shape]) -> None:
        self._by_name = dict(by_name)

    def of(self, value: ir.Value | None) -> Shape | None:
        """The shape of a value, or None when not even its rank is known."""
        if value is None:
            return None
        if value.const_value is not None:
            return tuple(value.const_value.shape.numpy())
        return self._by_name.get(value.name or "", _declared(value))

    def size(self, value: ir.Value | None, axis: int) -> int | None:
        """One dimension, or None."""
        shape = self.of(value)
        if shape is None or not -len(shape) <= axis < len(shape):
            return None
        return shape[axis]


def infer_shapes(structure: ir.Model, inputs: InputSpecs) -> Shapes:
    """Infer with onnx, on a copy, after fixing open input dimensions from `inputs`, else the batch to 1.

    Where that leaves shapes open the graph is run once to see them.
    """
    copy = structure.clone()
    fixed = {
        v.name or "": _fixed(v, inputs.get(v.name or "")) for v in copy.graph.inputs if not v.is_initializer()
    }
    for value in copy.graph.inputs:
        if value.shape is not None and value.name in fixed:
            value.shape = ir.Shape(fixed[value.name])
    found = _inferred(copy)
    if any(_is_open(found.get(v.name or "")) for node in structure.graph for v in node.outputs if v.name):
        found |= observe(structure, fixed)
    return Shapes(found)


def _is_open(shape: Shape | None) -> bool:
    return shape is None or None in shape


def _inferred(structure: ir.Model) -> dict[str, Shape]:
    try:
        proto = _c_api_utils.call_onnx_api(_infer, structure)
    except Exception as error:  # the onnx library raises many kinds; without it we only see less
        _LOG.warning("shape inference failed: %s", str(error)[:200])
        return {}
    found: dict[str, Shape] = {}
    _collect(proto.graph, found)
    return found


def _infer(proto: onnx.ModelProto) -> onnx.ModelProto:
    for graph in all_graphs(proto):
        for node in graph.node:
            if node.op_type in _READ_MAPS and node.domain == "ai.onnx.ml":
                node.domain = "unknown"
    import_all(proto)
    return onnx.shape_inference.infer_shapes(proto, check_type=False, strict_mode=False, data_prop=True)


def _fixed(value: ir.Value, spec: list[int] | InputSpec | None) -> list[int | None]:
    given = spec.shape if isinstance(spec, InputSpec) else spec
    sizes: list[int | None] = []
    for axis, size in enumerate(value.shape or ()):
        known = size if isinstance(size, int) and size > 0 else None
        if known is None and given is not None and axis < len(given):
            known = given[axis]
        sizes.append(1 if known is None and axis == 0 else known)
    return sizes


def _declared(value: ir.Value) -> Shape | None:
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)


def _collect(graph: onnx.GraphProto, found: dict[str, Shape]) -> None:
    """Shapes of a graph and of the graphs in its nodes; the first to name a value keeps it."""
    for info in (*graph.input, *graph.value_info, *graph.output):
        if info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape"):
            dims = info.type.tensor_type.shape.dim
            found.setdefault(info.name, tuple(d.dim_value if d.dim_value > 0 else None for d in dims))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _collect(attribute.g, found)
