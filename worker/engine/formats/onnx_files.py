"""An ONNX upload on disk: the model file, the data files beside it, the checks before a runtime."""

import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import TensorProto

from api_schemas.formats import sniff_model
from worker.engine.errors import InvalidModelError, TooLargeError
from worker.engine.formats.archives import check_archive, extract, open_archive
from worker.engine.formats.base import LoadOptions
from worker.engine.formats.onnx_tensors import all_graphs, check_tensors, logical_bytes, stored_tensors

#: Most a protobuf message can be.
_MOST_PROTO = 2**31 - 1
_STANDARD = ("", "ai.onnx")
#: Operators that ONNX Runtime has in the standard domain, and the opset from which ONNX has them, if any.
_RUNTIMES_OWN = {"LayerNormalization": 17, "SimplifiedLayerNormalization": 1 << 31}
#: The last version of the format in which every initializer is an input too.
_INPUTS_FOR_INITIALIZERS = 3
#: Initializers of more bytes need not be shown to the checker.
_SMALL = 1024


@dataclass(frozen=True)
class DataRange:
    """Where the bytes of a tensor with external data are: a file beside the model and a span in it."""

    location: str
    offset: int
    length: int


@dataclass(frozen=True)
class OnnxFiles:
    """The model file and the directory that its data files are relative to.

    `members` are all files of the upload by their names in its zip, in order; none for a bare file.
    """

    model: Path
    members: Mapping[str, Path] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """What the locations of external data are relative to."""
        return self.model.parent


def unpack(path: Path, options: LoadOptions) -> OnnxFiles:
    """The files of an upload; a zip is extracted into a directory of its own below `options.scratch`."""
    with path.open("rb") as file:
        root = sniff_model(file).archive_root
    if root is None:
        return OnnxFiles(path)
    with open_archive(path) as archive:
        check_archive(archive, options.logical_bytes)
        top = Path(tempfile.mkdtemp(prefix="onnx-", dir=options.scratch))
        extract(archive, top)
        members = {m.filename: top / m.filename for m in archive.infolist() if not m.is_dir()}
    return OnnxFiles(top / root, members)


def parse(files: OnnxFiles) -> onnx.ModelProto:
    """The model file as it stands, external data left outside."""
    size = files.model.stat().st_size
    if size > _MOST_PROTO:
        raise TooLargeError(
            "an ONNX file of over 2 GiB cannot be read", hint="save it with external data and upload a zip"
        )
    try:
        model = onnx.ModelProto()
        model.ParseFromString(files.model.read_bytes())
    except DecodeError:
        raise InvalidModelError("the ONNX file is truncated or damaged") from None
    return model


def serialized(model: onnx.ModelProto) -> bytes:
    """The bytes of a model file, the same for the same model. TooLargeError over what a message can be."""
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except (
        EncodeError,
        ValueError,
    ):  # protobuf measures a message by serialising it, so asking first costs as much
        raise TooLargeError(
            "the result would be an ONNX file of over 2 GiB", hint="save the model with external data"
        ) from None


def check(model: onnx.ModelProto, files: OnnxFiles, options: LoadOptions) -> dict[int, DataRange]:
    """Everything that is refused before a runtime sees the model; returns the external data by tensor number.

    The number of a tensor is its place in `stored_tensors`.
    """
    check_tensors(model, options.logical_bytes)
    ranges = {
        index: _data_range(tensor, files)
        for index, tensor in enumerate(stored_tensors(model))
        if tensor.data_location == TensorProto.EXTERNAL
    }
    held = {index for index, _ in enumerate(model.graph.initializer)}
    try:
        # Data of tensors inside nodes is looked for beside the file, so that the file itself is checked.
        onnx.checker.check_model(_outline(model) if held >= ranges.keys() else str(files.model))
    except Exception as error:  # the checker raises many kinds; each means that it refuses the file
        raise InvalidModelError(f"the ONNX checker refuses the model: {_first_lines(error)}") from None
    return ranges


def _outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with large initializers empty: the checker would read all of a file once more only to find
    what `check_tensors` has found, that they hold as much as they say.

    What runtimes do without, and exporters leave out, is filled in: shapes of inputs and outputs whose rank
    is open, imports of operator sets other than ONNX's own, the domain of operators that ONNX Runtime has and
    its optimizer writes without one, inputs that version 3 of the format has for initializers.
    """
    outline = onnx.ModelProto()
    _copy(model, outline, {"graph"})
    _copy(model.graph, outline.graph, {"initializer"})
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) <= _SMALL and tensor.data_location != TensorProto.EXTERNAL:
            outline.graph.initializer.append(tensor)
        else:
            outline.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=[0])
    for info in (*outline.graph.input, *outline.graph.output):
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.shape.SetInParent()
    if outline.ir_version == _INPUTS_FOR_INITIALIZERS:
        outline.ir_version += 1
    _name_runtimes_own(outline)
    import_all(outline)
    return outline


def _name_runtimes_own(model: onnx.ModelProto) -> None:
    opset = max((entry.version for entry in model.opset_import if entry.domain in _STANDARD), default=1)
    for graph in all_graphs(model):
        for node in graph.node:
            if node.domain in _STANDARD and opset < _RUNTIMES_OWN.get(node.op_type, 0):
                node.domain = "com.microsoft"


def import_all(model: onnx.ModelProto) -> None:
    """Import the operator sets that nodes are from and the model does not name, ONNX's own apart."""
    missing = {node.domain for graph in all_graphs(model) for node in graph.node}
    missing -= {"", "ai.onnx"} | {entry.domain for entry in model.opset_import}
    for domain in sorted(missing):
        model.opset_import.add(domain=domain, version=1)


def _copy(source: Message, target: Message, but: set[str]) -> None:
    """Copy all set fields of a message except those named."""
    for part, value in source.ListFields():
        if part.name in but:
            continue
        if part.is_repeated:
            getattr(target, part.name).extend(value)
        elif part.message_type is not None:
            getattr(target, part.name).CopyFrom(value)
        else:
            setattr(target, part.name, value)


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split("==> Context")[0].split())[:300]


def _data_range(tensor: TensorProto, files: OnnxFiles) -> DataRange:
    """Where the data is; refused unless it lies within one plain file of the upload (S6)."""
    keys = {entry.key: entry.value for entry in tensor.external_data}
    location = keys.get("location", "")
    file = _data_file(location, files)
    try:
        offset, length = int(keys.get("offset") or 0), int(keys.get("length") or logical_bytes(tensor))
    except ValueError:
        raise InvalidModelError(
            f"external data of {tensor.name[:80]!r} has a broken offset or length"
        ) from None
    if length != logical_bytes(tensor):
        raise InvalidModelError(f"external data of {tensor.name[:80]!r} is not as long as its shape says")
    if offset < 0 or offset + length > file.stat().st_size:
        raise InvalidModelError(f"external data of {tensor.name[:80]!r} reaches outside {location[:80]!r}")
    return DataRange(location, offset, length)


def _data_file(location: str, files: OnnxFiles) -> Path:
    pure = PurePosixPath(location)
    if not location or pure.is_absolute() or ".." in pure.parts or "\\" in location or "\0" in location:
        raise InvalidModelError(f"external data at {location[:80]!r} is outside the model's own directory")
    path = files.directory
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise InvalidModelError(f"external data at {location[:80]!r} is behind a link")
    if not path.exists():
        raise InvalidModelError(
            f"the model keeps data in {location[:80]!r}, which was not uploaded with it",
            hint="upload a zip of the .onnx file and its data files",
        )
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or path == files.model:
        raise InvalidModelError(f"external data at {location[:80]!r} is no plain file of its own")
    return path
