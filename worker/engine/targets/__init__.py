"""Targets in other units than sparsity, one to a file: what a plan comes to, and how to meet it."""

import importlib
import pkgutil

for _module in sorted(pkgutil.iter_modules(__path__), key=lambda found: found.name):
    importlib.import_module(f"{__name__}.{_module.name}")
