"""Model files: which format a file is, loading it, running it. A new format is one new module here."""

import importlib
import pkgutil
from pathlib import Path

from api_schemas.formats import sniff_model
from worker.engine.errors import InvalidModelError, UnsupportedFormatError
from worker.engine.formats.base import Format, LoadOptions, Network, Runner
from worker.engine.formats.registry import FORMATS

__all__ = ["FORMATS", "Format", "LoadOptions", "Network", "Runner", "format_of", "load", "runner"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def format_of(path: Path) -> Format:
    """The format of a file, decided by its content. Raises `UnsupportedFormatError` with the reason."""
    try:
        with path.open("rb") as file:
            sniffed = sniff_model(file)
    except OSError as error:
        raise InvalidModelError(f"the model file cannot be read: {error.strerror}") from None
    found = None if sniffed.format is None else FORMATS.get(sniffed.format)
    if found is None:
        raise UnsupportedFormatError(sniffed.reason or f"files of kind {sniffed.format} are not read here")
    return found


def load(path: Path, options: LoadOptions) -> Network:
    """Read a model file of any known format. Raises errors of `worker.engine.errors` only."""
    return format_of(path).load(path, options)


def runner(path: Path, options: LoadOptions, threads: int) -> Runner:
    """Make a model file of any known format ready to run."""
    return format_of(path).runner(path, options, threads)
