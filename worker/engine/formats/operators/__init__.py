"""ONNX operators in torch: one small function each, one file per family. A new family is one new module."""

import importlib
import pkgutil

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import Implementation, find, operator
from worker.engine.formats.operators.sizes import Sizes

__all__ = ["Call", "Implementation", "Sizes", "Value", "find", "operator"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
