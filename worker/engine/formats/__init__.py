"""Model files: which format a file is, loading it, running it. A new format is one new module here."""

import importlib
import pkgutil
from pathlib import Path

from api_schemas.formats import sniff_model
from api_schemas.models import ModelFormat
from worker.engine.errors import InvalidModelError, UnsupportedFormatError
from worker.engine.formats.base import Format, LoadOptions, Network, Runner
from worker.engine.formats.registry import FORMATS

__all__ = ["FORMATS", "Format", "LoadOptions", "Network", "Runner", "format_of", "load", "runner"]

#: What to do with files that we tell apart but do not read.
_ADVICE = {
    ModelFormat.PT2: (
        "this is a torch.export archive (.pt2), which cannot be read without running code of its maker",
        "export the model to ONNX with torch.onnx.export",
    )
}

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def format_of(path: Path) -> Format:
    """The format of a file, decided by its content. Raises `UnsupportedFormatError` with the reason."""
    try:
        with path.open("rb") as file:
            sniffed = sniff_model(file)
    except OSError as error:
        raise InvalidModelError(f"the model file cannot be read: {error.strerror}") from None
    if sniffed.format is None:
        raise UnsupportedFormatError(sniffed.reason)
    if sniffed.format not in FORMATS:
        reason, hint = _ADVICE.get(sniffed.format, (f"files of kind {sniffed.format} are not read", None))
        raise UnsupportedFormatError(reason, hint=hint)
    return FORMATS[sniffed.format]


def load(path: Path, options: LoadOptions) -> Network:
    """Read a model file of any known format. Raises errors of `worker.engine.errors` only."""
    return format_of(path).load(path, options)


def runner(path: Path, options: LoadOptions, threads: int) -> Runner:
    """Make a model file of any known format ready to run."""
    return format_of(path).runner(path, options, threads)
