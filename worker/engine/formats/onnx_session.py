"""Sessions of ONNX Runtime on files newer than it: read as of the newest version of the format it knows."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import onnx
import onnxruntime as ort

_TOO_NEW: Final = re.compile(r"Unsupported model IR version: \d+, max supported IR version: (\d+)")
#: Where a session that is given bytes looks for external data.
_FOLDER: Final = "session.model_external_initializers_file_folder_path"


def newest_known(error: Exception) -> int | None:
    """The newest IR version that the runtime reads, if that is what it refused a model for."""
    found = _TOO_NEW.search(str(error))
    return None if found is None else int(found.group(1))


def open_session(
    model: Path | onnx.ModelProto,
    options: ort.SessionOptions,
    providers: Sequence[str | tuple[str, Mapping[str, Any]]],
) -> tuple[ort.InferenceSession, int | None]:
    """A session, and the IR version under which it reads the model where the file's own is too new for it.

    What newer versions of the format add stands beside the operators, whose versions the runtime checks
    by themselves; so a model of known operators means the same under an older one. The file, or the
    message given, stays as it is. Raises what ONNX Runtime raises.
    """
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(source, options, providers=list(providers)), None
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        known = newest_known(error)
        if known is None:
            raise
    if isinstance(model, Path):
        options.add_session_config_entry(_FOLDER, str(model.parent))
    lowered = _lowered(model, known)
    return ort.InferenceSession(lowered, options, providers=list(providers)), known


def _lowered(model: Path | onnx.ModelProto, version: int) -> bytes:
    copy = onnx.ModelProto()
    copy.ParseFromString(model.read_bytes() if isinstance(model, Path) else model.SerializeToString())
    copy.ir_version = version
    return bytes(copy.SerializeToString())
