"""Which tensor of a TorchScript archive a tensor of its graph is: by name if that fits, else by content."""

import copy
from collections.abc import Mapping

import numpy as np

from worker.engine.formats.base import Array
from worker.engine.formats.torch_archive import TensorPlace, TorchArchive


class TensorNames:
    """Finds tensors of the archive by those of its marked copy (`TorchArchive.marked`).

    Content must be equal, so a transposed copy is no match.
    """

    def __init__(self, archive: TorchArchive, marked: TorchArchive, parameters: Mapping[str, object]) -> None:
        self._archive, self._marked = archive, marked
        self._places: dict[str, TensorPlace] = {}
        known: set[TensorPlace] = set()
        ordered = [name for name in archive.tensors if name in parameters]
        ordered += [name for name in archive.tensors if name not in parameters]
        for name in ordered:  # parameters first, so that they lend their names to aliases
            place = archive.tensors[name]
            if place not in known:
                self._places[name] = place
            known.add(place)
        self._by_place = {place: name for name, place in self._places.items()}

    def place(self, name: str) -> TensorPlace:
        """Where the tensor of a canonical name lies."""
        return self._places[name]

    def array(self, name: str) -> Array:
        """The tensor's elements, read-only."""
        place = self._places[name]
        return place.view(self._archive.record(place.record))

    def canonical(self, path: str) -> str | None:
        """The canonical name of the tensor at an attribute path."""
        place = self._archive.tensors.get(path)
        return None if place is None else self._by_place[place]

    def below(self, path: str) -> list[str]:
        """Canonical names of the tensors in the attribute at a path, in order."""
        inside = [name for name in self._archive.tensors if name.startswith(f"{path}.")]
        return [self._by_place[self._archive.tensors[name]] for name in inside]

    def constant(self, array: Array) -> str | None:
        """The canonical name of the one tensor of the code with just these elements; None if several do."""
        own = [name for name in self._places if name.startswith("CONSTANTS.")]
        found = [name for name in own if _same(self.array(name), array)]
        return found[0] if len(found) == 1 else None

    def over(self, archive: TorchArchive) -> "TensorNames":
        """The same names for an archive that differs in the bytes of its tensors alone."""
        names = copy.copy(self)
        names._archive = archive
        return names

    def paths(self) -> list[str]:
        """Attribute paths of all tensors, aliases among them; those of the code are at no path."""
        return [path for path in self._archive.tensors if not path.startswith("CONSTANTS.")]

    def find(self, array: Array, path: str = "") -> str | None:
        """The canonical name of the one marked tensor equal to `array`; that at `path` if it is equal."""
        named = self.canonical(path)
        if named is not None and self._equal(named, array):
            return named
        found = [name for name in self._places if self._equal(name, array)]
        return found[0] if len(found) == 1 else None

    def _equal(self, name: str, array: Array) -> bool:
        place = self._places[name]
        return _same(place.view(self._marked.record(place.record)), array)


def _same(first: Array, second: Array) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return np.array_equal(_raw(first), _raw(second))


def _raw(array: Array) -> Array:
    return np.ascontiguousarray(array).view(np.uint8)
