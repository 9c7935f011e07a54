"""A network with some weights replaced for the while that something is tried out."""

from pathlib import Path
from typing import final

import onnx_ir as ir

from worker.engine.formats.base import Array, Network
from worker.engine.formats.memory import Shelf


@final
class Draft(Network):
    """Reads like the network below it but for what was written here; that network never changes.

    Large replacements wait in files in `scratch`. A draft is for scoring: it cannot be saved.
    """

    def __init__(self, below: Network, scratch: Path) -> None:
        self._below = below
        self._replaced = Shelf[ir.Value](scratch)
        for name in Network.__annotations__:
            setattr(self, name, getattr(below, name))

    def read(self, value: ir.Value) -> Array:
        found = self._replaced.get(value)
        return self._below.read(value) if found is None else found

    def write(self, value: ir.Value, array: Array) -> None:
        self._replaced[value] = array

    def save(self, path: Path) -> None:
        raise TypeError(f"a draft cannot be saved to {path.name}: apply the plan to the network")

    def writable(self, value: ir.Value) -> bool:
        return self._below.writable(value)
