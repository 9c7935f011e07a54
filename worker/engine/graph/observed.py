"""Shapes seen by running the graph once, for what inference cannot tell (shapes computed from data).

ONNX Runtime runs the structure with every intermediate value as an output, batch 1, on fixed inputs.
Only shapes and small integers are kept.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from worker.engine.formats.onnx_session import open_session

_LOG = logging.getLogger(__name__)
#: Structures larger than this are not run: the copy and the activations would cost too much.
_MOST_BYTES = 1 << 30
#: For open dimensions that neither file nor request fixes: enough for five halvings, and no more.
_SIZES = (64, 224, 1)

Shape = tuple[int, ...]
_WITHOUT_TENSOR = {"SequenceConstruct", "SequenceInsert", "SplitToSequence", "SequenceEmpty", "Optional"}


def observe(structure: ir.Model, fixed: Mapping[str, list[int | None]]) -> dict[str, Shape]:
    """Shapes by value name; empty when the graph cannot be run here."""
    weight_bytes = sum(v.const_value.nbytes for v in structure.graph.initializers.values() if v.const_value)
    if weight_bytes > _MOST_BYTES:
        return {}
    proto = ir.serde.serialize_model(structure)
    names = _expose(proto)
    try:
        session = _session(proto)
    except Exception as error:  # the runtime raises many kinds; without it we only see less
        _LOG.warning("the graph cannot be run to see its shapes: %s", str(error)[:200])
        return {}
    for size in _SIZES:
        feeds = {i.name: _feed(i, fixed.get(i.name, []), size) for i in session.get_inputs()}
        try:
            values = session.run(names, feeds)
        except Exception as error:  # a size that does not suit the model; the next may
            _LOG.info("not run at size %d: %s", size, str(error)[:200])
            continue
        return {n: tuple(v.shape) for n, v in zip(names, values, strict=True) if isinstance(v, np.ndarray)}
    return {}


def _session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return open_session(proto, options, ["CPUExecutionProvider"])[0]


def _expose(proto: onnx.ModelProto) -> list[str]:
    """Make every top-level value an output; their names."""
    already = {value.name for value in proto.graph.output}
    names = [n for n in already if n]
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in already and node.op_type not in _WITHOUT_TENSOR:
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
                names.append(name)
    return names


def _feed(info: Any, fixed: list[int | None], size: int) -> np.ndarray[Any, Any]:
    """Something harmless of the input's type: normal numbers, or zeros where integers are indices."""
    shape = [_dimension(d, fixed[a] if a < len(fixed) else None, a, size) for a, d in enumerate(info.shape)]
    kind = info.type.removeprefix("tensor(").removesuffix(")")
    if kind in ("float", "double", "float16"):
        dtype = {"float": np.float32, "double": np.float64, "float16": np.float16}[kind]
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype=np.bool_ if kind == "bool" else np.dtype(kind))


def _dimension(size: Any, fixed: int | None, axis: int, otherwise: int) -> int:
    if isinstance(size, int) and size > 0:
        return size
    return fixed if fixed is not None else 1 if axis == 0 else otherwise
