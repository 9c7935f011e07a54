"""From rows of data to tensors on a device, and a network run over them: at once where it takes any number
of rows, else in calls of as many as it is bound to, whose outputs are put together again."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch

from worker.engine.data import Batch, Dataset
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.torch_module import first_line
from worker.engine.formats.torch_signature import to_tensor
from worker.engine.learning.distributed import World
from worker.engine.learning.mixing import Mixing, mixing_for
from worker.engine.types import Array

Tensors = tuple[torch.Tensor, ...]
Module = Callable[..., Tensors]
#: Calls compared with one call for all their rows, to see whether a bound network takes more rows after all.
_COMPARED = 3
#: Mixtures that stand beside every row in order.
MIXTURES = 3
_TOLERANCE = 1e-4


@final
@dataclass(frozen=True)
class Rows:
    """Inputs of one or more calls, which together are so many rows, and the rows' targets.

    Inputs lie on the device, targets on the host: losses check them there. `weight` is what the mean over
    these rows counts in a mean over several processes, whose parts of a batch need not be equal.
    """

    calls: tuple[Tensors, ...]
    rows: int
    targets: torch.Tensor | None
    weight: float = 1.0


@final
@dataclass(frozen=True)
class Batcher:
    """Batches of a dataset for a network. `per_call` is how many rows one call takes, None for any number.

    With `mixing`, mixtures of rows are given instead of shuffled rows, and beside rows in order.
    """

    data: Dataset
    names: tuple[str, ...]
    size: int
    device: torch.device
    per_call: int | None = None
    mixing: Mixing | None = None

    def over(self, data: Dataset, size: int | None = None) -> "Batcher":
        """The same network over other rows, in batches of another size if one is given."""
        return replace(self, data=data, size=size or self.size)

    def batches(self, limit: int | None = None) -> Iterator[Rows]:
        """All rows, or the first `limit` of them, in the order of the file."""
        for number, group in enumerate(_groups(self.data.batches(self._each, limit), self.size)):
            rows = self._rows(group)
            yield rows
            if self.mixing is not None:
                yield from (self._mixed(rows, self.mixing, number, again) for again in range(MIXTURES))

    def mixtures(self, first: Rows) -> "Batcher":
        """The same with mixtures, where rows are such as can be mixed: `first` are some of them."""
        fixed = [name in self._fixed for name in self.names]
        return replace(self, mixing=mixing_for(first.calls, fixed))

    def shuffled(self, seed: int, start: int = 0, world: World | None = None) -> Iterator[Rows]:
        """Batches of one size without end, from number `start` on, every epoch in an order of its own. Of
        several processes each gets a part of every batch."""
        world = world or World()
        for number, rows in enumerate(self._shuffled(seed, start, world), start):
            mixing = self.mixing
            yield rows if mixing is None else self._mixed(rows, mixing, seed, number, world.rank)

    def _shuffled(self, seed: int, start: int, world: World) -> Iterator[Rows]:
        whole = self.data.batch_size(self._each)
        if self.per_call is None and whole >= world.size:
            yield from self._parted(seed, start, world)
        calls = -(-self.size // (world.size * whole))
        every = self.data.epochs(self._each, seed, start * calls * world.size)
        for group in _groups(every, calls * world.size, of_batches=True):
            yield self._rows(group[world.rank * calls : (world.rank + 1) * calls])

    def _parted(self, seed: int, start: int, world: World) -> Iterator[Rows]:
        """This process's rows of each batch that one process alone would have; the others are not read."""
        whole = self.data.batch_size(self._each)
        calls = -(-self.size // whole)
        part = slice(whole * world.rank // world.size, whole * (world.rank + 1) // world.size)
        weight = (part.stop - part.start) * world.size / whole
        for group in _groups(self.data.epochs(self._each, seed, start * calls, part), calls, of_batches=True):
            yield replace(self._rows(group), weight=weight)

    @property
    def judged(self) -> int:
        """Rows that `batches` gives, mixtures among them."""
        return self.data.rows * (1 if self.mixing is None else 1 + MIXTURES)

    @property
    def _each(self) -> int:
        return self.per_call or self.size

    def _rows(self, group: Sequence[Batch]) -> Rows:
        if self.per_call is None and len(group) > 1:
            calls = [self._tensors(_joined(group, self._fixed))]
        else:
            calls = [self._tensors(batch) for batch in group]
        arrays = [batch.targets for batch in group if batch.targets is not None]
        targets = _target_tensor(np.concatenate(arrays)) if arrays else None
        return Rows(tuple(calls), sum(batch.rows for batch in group), targets)

    def _mixed(self, rows: Rows, mixing: Mixing, *seed: int) -> Rows:
        """Mixtures have no targets: a label between two labels is not what the loss knows."""
        return replace(rows, calls=mixing.of(rows.calls, seed), targets=None)

    @property
    def _fixed(self) -> frozenset[str]:
        """Inputs that get one value, whatever the row."""
        return frozenset(item.item.name for item in self.data.bindings if item.column is None)

    def _tensors(self, batch: Batch) -> Tensors:
        return tuple(to_tensor(batch.feeds[name]).to(self.device, non_blocking=True) for name in self.names)


def batcher_for(
    module: Module, names: Sequence[str], data: Dataset, size: int, device: str | torch.device
) -> Batcher:
    """Find out how many rows the network takes in one call: any number, or as many as the file says.

    A file that is bound to a number of rows takes any number if outputs for many rows are those of its own
    number, row for row. A file that says that it takes any number, and does not, is run row by row.
    Raises InvalidRecipeError when it does not run on the rows at all.
    """
    free = Batcher(data, tuple(names), size, torch.device(device))
    bound = data.bound_batch
    alone = Batcher(data, tuple(names), size, torch.device(device), bound or 1)
    expected, failure = _try(module, alone, (bound or 1) * _COMPARED)
    found, _ = _try(module, free, (bound or 1) * _COMPARED)
    if found is not None and (expected is None or _same(expected, found)):
        return free
    if found is not None and bound is None and _by_row(found, min(data.rows, _COMPARED)):
        return free
    if expected is None:
        raise InvalidRecipeError(f"torch fails on the model with these rows: {failure}")
    return alone


def run(module: Module, batch: Rows) -> Tensors:
    """Outputs for all rows, along their first axis."""
    outputs = [module(*inputs) for inputs in batch.calls]
    if len(outputs) == 1:
        return outputs[0]
    return tuple(torch.cat([_with_rows(one) for one in several]) for several in zip(*outputs, strict=True))


def _groups(batches: Iterable[Batch], size: int, *, of_batches: bool = False) -> Iterator[list[Batch]]:
    """Batches put together until they are `size` rows, or `size` batches; the last group may be smaller."""
    group: list[Batch] = []
    for batch in batches:
        group.append(batch)
        if (len(group) if of_batches else sum(item.rows for item in group)) >= size:
            yield group
            group = []
    if group:
        yield group


def _joined(group: Sequence[Batch], fixed: frozenset[str]) -> Batch:
    first = group[0]
    feeds = {
        name: array if name in fixed else np.concatenate([batch.feeds[name] for batch in group])
        for name, array in first.feeds.items()
    }
    return Batch(feeds, sum(batch.rows for batch in group))


def _target_tensor(array: Array) -> torch.Tensor:
    """Whole numbers as int64, which losses index by; others in float32."""
    whole = array.dtype.kind in "biu"
    return torch.from_numpy(np.ascontiguousarray(array, np.int64 if whole else np.float32))


def _with_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dim() else tensor.reshape(1)


def _try(module: Module, batcher: Batcher, rows: int) -> tuple[list[Tensors] | None, str]:
    """Outputs for the first rows, call by call; None, and why, when it fails."""
    few = Batcher(batcher.data, batcher.names, rows, batcher.device, batcher.per_call)
    batch = next(few.batches(rows))
    try:
        with torch.no_grad():
            return [tuple(one.detach() for one in module(*inputs)) for inputs in batch.calls], ""
    except Exception as error:  # code of the file runs here and may raise anything
        raise_if_memory(error)
        return None, first_line(error)


def _same(calls: Sequence[Tensors], joined: Sequence[Tensors]) -> bool:
    """Whether one call gave, row for row, what the calls gave."""
    if len(joined) != 1 or any(len(call) != len(joined[0]) for call in calls):
        return False
    whole = [torch.cat([_with_rows(one) for one in several]) for several in zip(*calls, strict=True)]
    return all(_close(one, other) for one, other in zip(whole, joined[0], strict=True))


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.shape != _with_rows(other).shape:
        return False
    largest = float(one.abs().max()) if one.is_floating_point() and one.numel() else 0.0
    return torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE * largest + 1e-7, equal_nan=True)


def _by_row(joined: Sequence[Tensors], rows: int) -> bool:
    return any(one.dim() > 0 and one.shape[0] == rows for one in joined[0])
