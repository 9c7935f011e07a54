"""TensorProtos: where they stand in a ModelProto, how large they claim to be, how to fill one."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto

from worker.engine.errors import InvalidModelError, TooLargeError
from worker.engine.formats.base import Array
from worker.engine.formats.filled import filled_bytes

_MOST_BYTES = 2**62
#: What a string costs at least: its pointer.
_STRINGS_BITS = 64
#: Width of an element in bits -> how entries of `int32_data` are cut from packed bytes.
_INT32_VIEWS = {32: np.int32, 16: np.uint16, 8: np.uint8}


def stored_tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every dense tensor that the file stores, in an order that depends on the file alone."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
    for training in model.training_info:
        yield from _graph_tensors(training.initialization)
        yield from _graph_tensors(training.algorithm)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in _sparse(attribute):
                yield from (sparse.values, sparse.indices)
            if attribute.HasField("g"):
                yield from _graph_tensors(attribute.g)
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


def _sparse(attribute: onnx.AttributeProto) -> Iterator[onnx.SparseTensorProto]:
    if attribute.HasField("sparse_tensor"):
        yield attribute.sparse_tensor
    yield from attribute.sparse_tensors


def logical_bytes(tensor: TensorProto) -> int:
    """Bytes of the tensor's elements by its dims. `InvalidModelError` for dims or types that cannot be."""
    if any(size < 0 for size in tensor.dims):
        raise InvalidModelError(f"tensor {_short(tensor)} has a negative dimension")
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError:
        raise InvalidModelError(f"tensor {_short(tensor)} has unknown type {tensor.data_type}") from None
    if kind == ir.DataType.UNDEFINED:
        raise InvalidModelError(f"tensor {_short(tensor)} has no type")
    bits = _STRINGS_BITS if kind == ir.DataType.STRING else kind.bitwidth
    return -(-math.prod(map(int, tensor.dims)) * int(bits) // 8)


def check_tensors(model: onnx.ModelProto, limit: int) -> None:
    """Refuse tensors that hold other than their dims say, and models over `limit` logical bytes."""
    total = 0
    for tensor in stored_tensors(model):
        size = logical_bytes(tensor)
        total += size
        if total > limit:
            raise TooLargeError(f"the model's tensors take over {limit} bytes when loaded")
        if tensor.data_location != TensorProto.EXTERNAL and _held_bytes(tensor) != size:
            raise InvalidModelError(f"tensor {_short(tensor)} does not hold as much data as its shape says")
    total += sum(map(filled_bytes, all_graphs(model)))
    if total > limit:
        raise TooLargeError(f"the model's ConstantOfShape nodes make over {limit} bytes of tensors")
    for sparse in _all_sparse(model):
        total += min(math.prod(max(size, 0) for size in sparse.dims) * 4, _MOST_BYTES)
        if total > limit:
            raise TooLargeError(f"the model's sparse tensors take over {limit} bytes when loaded")


def all_graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph and the bodies in its nodes and in those of functions."""
    graphs = [model.graph]
    nodes = [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield graph
            nodes.extend(graph.node)
        while nodes:
            for attribute in nodes.pop().attribute:
                graphs.extend([attribute.g] if attribute.HasField("g") else [])
                graphs.extend(attribute.graphs)


def _all_sparse(model: onnx.ModelProto) -> Iterator[onnx.SparseTensorProto]:
    for graph in all_graphs(model):
        yield from graph.sparse_initializer
        for node in graph.node:
            for attribute in node.attribute:
                yield from _sparse(attribute)
    for function in model.functions:
        for node in function.node:
            for attribute in node.attribute:
                yield from _sparse(attribute)


def _held_bytes(tensor: TensorProto) -> int:
    """Logical bytes of the data that an inline tensor really holds."""
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    kind = ir.DataType(tensor.data_type)
    if kind == ir.DataType.STRING:
        return len(tensor.string_data) * _STRINGS_BITS // 8
    if tensor.int32_data:
        # Types under eight bits are packed, so that an entry is a byte of packed elements; six bits are not.
        return -(-len(tensor.int32_data) * (kind.bitwidth if kind.bitwidth in (6, 16, 32) else 8) // 8)
    if tensor.float_data:
        return 4 * len(tensor.float_data)
    if tensor.double_data:
        return 8 * len(tensor.double_data)
    if tensor.int64_data:
        return 8 * len(tensor.int64_data)
    return len(tensor.uint64_data) * kind.bitwidth // 8


def array_of(data: Array, kind: ir.DataType, shape: tuple[int, ...]) -> Array:
    """Bytes as the raw data of a tensor; a view of `data` where elements are whole bytes."""
    if kind.bitwidth >= 8:
        return data.view(kind.numpy()).reshape(shape)
    packed = TensorProto(data_type=kind.value, dims=shape, raw_data=data.tobytes())
    return ir.TensorProtoTensor(packed).numpy()


def put(tensor: TensorProto, array: Array) -> None:
    """Replace an inline tensor's elements by `array` in the field that holds them now."""
    packed = ir.Tensor(array, dtype=ir.DataType(tensor.data_type)).tobytes()
    if tensor.HasField("raw_data"):
        tensor.raw_data = packed
    elif tensor.float_data:
        tensor.float_data[:] = np.frombuffer(packed, "<f4").tolist()
    elif tensor.double_data:
        tensor.double_data[:] = np.frombuffer(packed, "<f8").tolist()
    elif tensor.int64_data:
        tensor.int64_data[:] = np.frombuffer(packed, "<i8").tolist()
    elif tensor.uint64_data:
        width = ir.DataType(tensor.data_type).bitwidth // 8
        tensor.uint64_data[:] = np.frombuffer(packed, f"<u{width}").tolist()
    elif tensor.int32_data:
        tensor.int32_data[:] = _as_int32(array, packed, ir.DataType(tensor.data_type))


def _as_int32(array: Array, packed: bytes, kind: ir.DataType) -> list[int]:
    """The entries of `int32_data`: signed for signed integers, bit patterns for everything else."""
    if kind in (ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32):
        return [int(entry) for entry in array.ravel()]
    if kind.bitwidth == 6:
        return [int(entry) for entry in array.view(np.uint8).ravel()]
    return [int(entry) for entry in np.frombuffer(packed, _INT32_VIEWS.get(kind.bitwidth, np.uint8))]


def _short(tensor: TensorProto) -> str:
    return repr(tensor.name[:80])
