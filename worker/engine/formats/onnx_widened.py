"""An ONNX file of half-precision numbers made one that computes the same in float32.

Two files that mean the same agree in half precision only as far as its rounding lets them; what is to be
proved of them is proved on what they mean.
"""

from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, external_data_helper, numpy_helper

from worker.engine.formats.base import Array, LoadOptions
from worker.engine.formats.onnx_files import OnnxFiles, parse, serialized, unpack
from worker.engine.formats.onnx_tensors import all_graphs, stored_tensors

_HALVES = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
#: Attributes that name a type.
_TYPES = {"to", "dtype", "output_dtype", "stash_type", "softmax_precision"}


def widened(path: Path, options: LoadOptions, folder: Path) -> Path | None:
    """The file in float32, its weights inside it, in a new folder; None where no number is half.

    Raises TooLargeError for what one file cannot hold.
    """
    files = unpack(path, options)
    model = parse(files)
    if not _has_halves(model):
        return None
    _load_outside(model, files)
    for tensor in stored_tensors(model):
        if tensor.data_type in _HALVES:
            _widen(tensor)
    for graph in all_graphs(model):
        for info in (*graph.input, *graph.output, *graph.value_info):
            _widen_type(info.type)
        _widen_nodes(graph.node)
    for function in model.functions:
        _widen_nodes(function.node)
    folder.mkdir()
    wide = folder / files.model.name
    wide.write_bytes(serialized(model))
    return wide


def wide_feed(array: Array) -> Array:
    """Half-precision numbers in float32, others as they are."""
    return array.astype(np.float32) if array.dtype in (np.float16, ml_dtypes.bfloat16) else array


def _has_halves(model: onnx.ModelProto) -> bool:
    if any(tensor.data_type in _HALVES for tensor in stored_tensors(model)):
        return True
    nodes = (node for graph in all_graphs(model) for node in graph.node)
    return any(a.name == "to" and a.i in _HALVES for node in nodes for a in node.attribute)


def _load_outside(model: onnx.ModelProto, files: OnnxFiles) -> None:
    for tensor in stored_tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            external_data_helper.load_external_data_for_tensor(tensor, str(files.directory))
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT


def _widen(tensor: TensorProto) -> None:
    array = numpy_helper.to_array(tensor).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _widen_type(kind: TypeProto) -> None:
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type in _HALVES:
        kind.tensor_type.elem_type = TensorProto.FLOAT


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in _TYPES and attribute.i in _HALVES:
                attribute.i = TensorProto.FLOAT
