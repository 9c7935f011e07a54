"""ONNX files. The structure is read with onnx-ir; the file itself is edited as protobuf, so that nothing of
what onnx-ir does not model is lost."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, TypeProto, external_data_helper

from api_schemas.models import ModelFormat, TensorInfo
from worker.engine.errors import InvalidModelError
from worker.engine.formats.archives import pack
from worker.engine.formats.base import Array, Format, LoadOptions, Network, Runner
from worker.engine.formats.edits import Edit
from worker.engine.formats.filled import filled, mark_whole, shrunk_fills, store_whole
from worker.engine.formats.graph_trainable import GraphTrainable
from worker.engine.formats.memory import Shelf
from worker.engine.formats.onnx_files import DataRange, OnnxFiles, check, parse, serialized, unpack
from worker.engine.formats.onnx_rewrite import rewrite
from worker.engine.formats.onnx_runner import OnnxRunner
from worker.engine.formats.onnx_spans import replaced
from worker.engine.formats.onnx_tensors import array_of, put, stored_tensors
from worker.engine.formats.registry import register
from worker.engine.formats.trainable import Trainable

#: Under this key a tensor of the structure knows its place in `stored_tensors` of the file.
_NUMBER = "lookahead.number"
_KIND = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


@final
class OnnxNetwork(Network):
    """A loaded ONNX upload. Edits are kept apart until `save`; the upload itself is never changed."""

    format = ModelFormat.ONNX
    structure_warning = None

    def __init__(
        self, files: OnnxFiles, proto: onnx.ModelProto, ranges: Mapping[int, DataRange], scratch: Path | None
    ) -> None:
        self._files, self._ranges = files, ranges
        self.file = files.model
        self._shared = _overlapped(ranges)
        #: How many of the tensors are initializers of the main graph: these have the first numbers.
        self._initializers = len(proto.graph.initializer)
        self._written = Shelf[int](scratch)
        #: Numbers of ConstantOfShape nodes that must become whole tensors.
        self._whole: set[int] = set()
        self.producer = (
            " ".join(filter(None, map(_text, (proto.producer_name, proto.producer_version)))) or None
        )
        self.structure = structure_of(proto, files.directory)
        graph = self.structure.graph
        self.inputs = tuple(_info(value) for value in graph.inputs if not value.is_initializer())
        self.outputs = tuple(_info(value) for value in graph.outputs)
        self.opset = self.structure.opset_imports.get("", self.structure.opset_imports.get("ai.onnx"))
        self.suffix = ".zip" if files.members or ranges else ".onnx"

    def read(self, value: ir.Value) -> Array:
        """The tensor in its own dtype; external data is mapped. KeyError when nothing is stored."""
        tensor, shape = _held(value)
        if tensor is None:
            return plain_constant(value)
        number = _number(tensor)
        if number is not None and number in self._written:
            return self._written[number]
        if number is not None and number in self._ranges:
            return self._mapped(tensor, self._ranges[number])
        array = tensor.numpy()
        return array if array.shape == shape else np.broadcast_to(array.reshape(()), shape)

    def _mapped(self, tensor: ir.TensorProtocol, where: DataRange) -> Array:
        if not where.length:
            return np.empty(tensor.shape.numpy(), tensor.dtype.numpy())
        path = self._files.directory / where.location
        data = np.memmap(path, np.uint8, "r", where.offset, (where.length,))
        return array_of(data, tensor.dtype, tuple(tensor.shape.numpy()))

    def writable(self, value: ir.Value) -> bool:
        """True for dense numeric tensors of the file that share no bytes with another."""
        tensor, _ = _held(value)
        if tensor is None or tensor.dtype == ir.DataType.STRING:
            return False
        number = _number(tensor)
        return number is not None and number not in self._shared

    def write(self, value: ir.Value, array: Array) -> None:
        """Replace the tensor. ValueError when shape or dtype differ or the value is not writable."""
        tensor, shape = _held(value)
        number = None if tensor is None else _number(tensor)
        if tensor is None or number is None or not self.writable(value):
            raise ValueError(f"{value.name!r} cannot be written")
        if array.shape != shape or array.dtype != tensor.dtype.numpy():
            raise ValueError(f"{value.name!r} is of another shape or type than {array.dtype}{array.shape}")
        if filled(value) is not None:
            self._whole.add(number)
        self._written[number] = array

    def save(self, path: Path) -> None:
        """Write the upload again: a bare file, or a zip with its data files in their order and layout."""
        if self.suffix == ".onnx":
            self._save_model(path)
            return
        with tempfile.TemporaryDirectory(prefix="save-", dir=path.parent) as staging:
            members = {
                name: self._edited(file, Path(staging) / str(index))
                for index, (name, file) in enumerate(self._members().items())
            }
            pack(path, members)

    def rewritten(self, edits: Sequence[Edit], directory: Path) -> Network:
        """The edited model in a file of its own; data that was outside stays outside, under its old name."""
        proto = parse(self._files)
        for number, tensor in enumerate(stored_tensors(proto)):
            if number in self._ranges:
                external_data_helper.load_external_data_for_tensor(tensor, str(self._files.directory))
                tensor.ClearField("external_data")
                tensor.data_location = TensorProto.DEFAULT
            self._put(number, tensor)
        store_whole(proto)
        rewrite(proto, self.structure, shrunk_fills(edits))
        path = directory / self._files.model.name
        location = next(iter(dict.fromkeys(where.location for where in self._ranges.values())), None)
        if location is None:
            path.write_bytes(serialized(proto))
        else:
            onnx.save_model(proto, path, save_as_external_data=True, location=location, size_threshold=1024)
        return OnnxFormat().load(path, LoadOptions(scratch=directory))

    def trainable(self, device: str = "cpu") -> Trainable:
        """The graph as a torch module, with the tensors as they are written now."""
        return GraphTrainable(self, device)

    def _members(self) -> Mapping[str, Path]:
        """Files of the zip that comes back; for a bare file with data beside it the two together."""
        if self._files.members:
            return self._files.members
        locations = dict.fromkeys(where.location for where in self._ranges.values())
        data = {location: self._files.directory / location for location in locations}
        return {self._files.model.name: self._files.model, **data}

    def _edited(self, file: Path, copy: Path) -> Path:
        """The file itself when nothing in it was written to, else an edited copy."""
        if file == self._files.model:
            self._save_model(copy)
            return copy
        written = [n for n in self._written if n in self._ranges and self._data_file(n) == file]
        if not written:
            return file
        shutil.copyfile(file, copy)
        with copy.open("r+b") as data:
            for number in written:
                data.seek(self._ranges[number].offset)
                data.write(ir.Tensor(self._written[number]).tobytes())
        return copy

    def _data_file(self, number: int) -> Path:
        return self._files.directory / self._ranges[number].location

    def _save_model(self, path: Path) -> None:
        """Write the model file. It is parsed anew, because protobuf never frees what a message once held."""
        inline = self._written.only(number for number in self._written if number not in self._ranges)
        shutil.copyfile(self._files.model, path)
        if all(number < self._initializers for number in inline) and replaced(path, inline):
            return
        proto = parse(self._files)
        for number, tensor in enumerate(stored_tensors(proto)):
            if number in inline:
                self._put(number, tensor)
        store_whole(proto)
        path.write_bytes(serialized(proto))

    def _put(self, number: int, tensor: TensorProto) -> None:
        """Carry what was written to a tensor into the file's message."""
        if number in self._whole:
            mark_whole(tensor, self._written[number])
        elif number in self._written:
            put(tensor, self._written[number])


@final
@register
class OnnxFormat(Format):
    """ONNX, as one file or as a zip of the file and its external data."""

    format = ModelFormat.ONNX

    def load(self, path: Path, options: LoadOptions) -> Network:
        """Check the upload against hostile content, then read its structure."""
        files = unpack(path, options)
        proto = parse(files)
        ranges = check(proto, files, options)
        return OnnxNetwork(files, proto, ranges, options.scratch)

    def runner(self, path: Path, options: LoadOptions, threads: int) -> Runner:
        """An ONNX Runtime session, after the same checks as for loading."""
        files = unpack(path, options)
        check(parse(files), files, options)
        return OnnxRunner(files.model, options.device, threads)


def structure_of(proto: onnx.ModelProto, directory: Path) -> ir.Model:
    """The onnx-ir view of a file; `proto` is marked on the way and belongs to the view afterwards."""
    for number, tensor in enumerate(stored_tensors(proto)):
        tensor.metadata_props.add(key=_NUMBER, value=str(number))
    _forget_types(proto.graph)
    try:
        structure = ir.serde.deserialize_model(proto)
    except Exception as error:  # onnx-ir passes on whatever a malformed part makes it raise
        raise InvalidModelError(f"the ONNX graph cannot be read: {_root_cause(error)}") from None
    if any(isinstance(name, bytes) for name in _all_names(structure)):
        raise InvalidModelError("the ONNX graph has names that are no UTF-8 text")
    for held in _all_tensors(structure):
        if isinstance(held, ir.ExternalTensor):
            held.base_dir = directory
    return structure


def _text(text: str | bytes) -> str:
    """protobuf gives bytes where a file holds a string that is no UTF-8."""
    return text if isinstance(text, str) else text.decode("utf-8", "replace")


def _bodies(structure: ir.Model) -> tuple[ir.Graph | ir.Function, ...]:
    return (structure.graph, *structure.functions.values())


def _all_names(structure: ir.Model) -> Iterator[str | bytes | None]:
    for graph in structure.graphs():
        yield from (value.name for value in (*graph.inputs, *graph.initializers.values()))
    for body in _bodies(structure):
        for node in body.all_nodes():
            yield from (node.name, node.op_type, node.domain)
            yield from (output.name for output in node.outputs)


def _forget_types(graph: onnx.GraphProto) -> None:
    """Drop the types that onnx-ir cannot represent (maps, opaques); no layer has such operands."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        if not _is_known(info.type):
            info.ClearField("type")
    for node in graph.node:
        for attribute in node.attribute:
            for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _forget_types(body)


def _is_known(kind: TypeProto) -> bool:
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return kind.WhichOneof("value") in ("tensor_type", "sparse_tensor_type", None)


def _root_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())[:300]


def _all_tensors(structure: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in structure.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value
    for body in _bodies(structure):
        for node in body.all_nodes():
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    yield attribute.as_tensor()


def stored_tensor(value: ir.Value) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a Constant's `value`, or None."""
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    attribute = _attribute_of_constant(node)
    if attribute is None or attribute.type != ir.AttributeType.TENSOR:
        return None
    return attribute.as_tensor()


def _held(value: ir.Value) -> tuple[ir.TensorProtocol | None, tuple[int, ...]]:
    """What the file stores behind a value, and the value's shape: the tensor, or the one number of a
    ConstantOfShape."""
    fill = filled(value)
    if fill is not None:
        return fill.number, fill.shape
    tensor = stored_tensor(value)
    return tensor, () if tensor is None else tuple(tensor.shape.numpy())


def _attribute_of_constant(node: ir.Node | None) -> ir.Attr | None:
    """The one attribute of a Constant node that is a value and not a reference to a function's parameter."""
    if node is None or node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    values = [attribute for attribute in node.attributes.values() if not attribute.is_ref()]
    return values[0] if len(values) == 1 else None


def plain_constant(value: ir.Value) -> Array:
    attribute = _attribute_of_constant(value.producer())
    if attribute is None or attribute.name not in _KIND:
        raise KeyError(f"{value.name!r} is no stored tensor")
    return np.asarray(attribute.value, _KIND[attribute.name])


def _number(tensor: ir.TensorProtocol) -> int | None:
    mark = tensor.metadata_props.get(_NUMBER)
    return None if mark is None else int(mark)


def _overlapped(ranges: Mapping[int, DataRange]) -> frozenset[int]:
    """Tensors whose external bytes are also those of another; writing one would change both."""
    shared: set[int] = set()
    ordered = sorted((w.location, w.offset, w.offset + w.length, n) for n, w in ranges.items() if w.length)
    last: tuple[str, int, int] = ("", 0, 0)
    for location, start, end, number in ordered:
        if location == last[0] and start < last[1]:
            shared |= {number, last[2]}
        if location != last[0] or end >= last[1]:
            last = (location, end, number)
    return frozenset(shared)


def _info(value: ir.Value) -> TensorInfo:
    shape = None if value.shape is None else [_dimension(size) for size in value.shape]
    return TensorInfo(name=value.name or "", dtype=_dtype_name(value.dtype), shape=shape)


def _dimension(size: int | ir.SymbolicDim) -> int | str | None:
    """A dimension; exporters write 0 or -1 for one they leave open."""
    if isinstance(size, int):
        return size if size > 0 else None
    return size.value or None


def _dtype_name(dtype: ir.DataType | None) -> str:
    if dtype is None or dtype == ir.DataType.UNDEFINED:
        return "unknown"
    return "string" if dtype == ir.DataType.STRING else str(dtype.numpy().name)
