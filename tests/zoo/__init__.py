"""The zoo: networks of our own that stand for the architectures and topologies users bring."""

import importlib
import pkgutil

from tests.zoo.drawings import DRAWINGS, Drawing
from tests.zoo.entry import ZOO, Entry
from tests.zoo.exporting import Exporter, ExportError, export, torchscript

__all__ = ["DRAWINGS", "ZOO", "Drawing", "Entry", "ExportError", "Exporter", "export", "torchscript"]

for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("test_"):
        importlib.import_module(f"{__name__}.{_module.name}")
