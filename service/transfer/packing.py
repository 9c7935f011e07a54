"""An ONNX file and its external data as one stored, deterministic zip: the same files give the same bytes."""

import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from api_schemas.archives import is_safe_name
from service.errors import InvalidRequestError
from service.transfer.incoming import Received
from service.transfer.names import safe_filename

_EPOCH = (1980, 1, 1, 0, 0, 0)
_BLOCK = 2**20


def pack_model(model: Received, external: Sequence[Received], to: Path) -> str:
    """Write the archive to `to` and return the model's name in it.

    External data keeps the relative path it was sent with, for the model refers to it by that path.
    Raises `InvalidRequestError` for names that are unsafe, doubled or could be taken for a second model.
    """
    root = safe_filename(model.filename, "model.onnx")
    root = root if root.lower().endswith(".onnx") else f"{root}.onnx"
    members = {root: model.path}
    for received in external:
        name = received.filename.removeprefix("./")
        _check_name(name, members)
        members[name] = received.path
    with zipfile.ZipFile(to, "x", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name in sorted(members):
            _add(archive, name, members[name])
    return root


def _check_name(name: str, taken: dict[str, Path]) -> None:
    if not is_safe_name(name) or name.endswith("/"):
        raise InvalidRequestError.at("/external_data", "a part has no usable relative file name")
    if name.lower().endswith(".onnx"):
        raise InvalidRequestError.at("/external_data", "external data must not be named .onnx")
    if name in taken:
        raise InvalidRequestError.at("/external_data", f"two files are named {name[:100]!r}")


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    info = zipfile.ZipInfo(name, date_time=_EPOCH)
    info.external_attr = 0o644 << 16
    info.create_system = 3
    info.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(info, "w", force_zip64=False) as target:
        shutil.copyfileobj(source, target, _BLOCK)
