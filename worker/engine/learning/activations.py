"""What flows through a network: it is run over rows of data, and statistics are gathered on the way.

Memory holds one batch and the sums. Convolutions have far more positions than statistics need; where so
asked, a random part of them is looked at, the same in every network that is run beside another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import onnx_ir as ir
import torch

from worker.engine.data import Dataset
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.base import Network
from worker.engine.formats.graph_module import GraphModule, graph_module
from worker.engine.formats.memory import raise_if_memory
from worker.engine.learning.batching import Batcher, Tensors, batcher_for
from worker.engine.learning.moments import Evidence, Moments, Spread
from worker.engine.learning.unfolding import Unfolding

#: Rows of data that go through the network at once.
BATCH = 64
#: Rows of unfolded data that the moments of one weight are taken from, at least where there are as many.
ROWS_PER_WEIGHT = 32768
#: Gram matrices that are summed in one pass, in bytes.
_GRAMS_AT_ONCE = 2**30


@final
@dataclass(frozen=True)
class Call:
    """Inputs of one call, the targets of its rows if there are any, how many rows, its number in the pass."""

    inputs: Tensors
    targets: torch.Tensor | None
    rows: int
    number: int


@final
@dataclass(frozen=True)
class Passes:
    """The rows of a batcher, as often as they are asked for; the seed draws positions."""

    batcher: Batcher
    seed: int

    def __iter__(self) -> Iterator[Call]:
        number = 0
        for batch in self.batcher.batches():
            each = -(-batch.rows // len(batch.calls))
            parts: Sequence[torch.Tensor | None] = [None] * len(batch.calls)
            if batch.targets is not None:
                parts = torch.split(batch.targets, each)
            for inputs, targets in zip(batch.calls, parts, strict=True):
                yield Call(inputs, targets, batch.rows // len(batch.calls), number)
                number += 1

    def positions(self, call: Call, there: int, rows: int = ROWS_PER_WEIGHT) -> torch.Tensor | None:
        """The positions of each sample that are looked at in this call, of so many, so that all samples give
        `rows`; None for all."""
        wanted = -(-rows // self.batcher.data.rows)
        if wanted >= there:
            return None
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + call.number)
        return torch.randperm(there, generator=generator)[:wanted].sort().values


@final
@dataclass(frozen=True)
class Observed:
    """A network that can be watched, and the rows that it is run over."""

    module: GraphModule
    passes: Passes

    def values(self, values: Sequence[ir.Value]) -> Iterator[tuple[Call, Mapping[ir.Value, torch.Tensor]]]:
        """Every call of a pass with what these values of the structure were in it."""
        with self.module.watching(dict.fromkeys(values)) as seen:
            for call in self.passes:
                reach_quietly(self.module, call)
                yield call, seen

    @property
    def device(self) -> str:
        """Where the network lies."""
        return str(self.passes.batcher.device)


def observed(
    network: Network, data: Dataset, rows: int, seed: int, device: str, batch: int = BATCH
) -> Observed:
    """The network in torch with so many rows to run it over. Raises InvalidRecipeError where it cannot."""
    module = graph_module(network, device)
    batcher = batcher_for(module, module.input_names, data.sample(rows, seed), batch, device)
    return Observed(module, Passes(batcher, seed))


def run_quietly(module: GraphModule, call: Call) -> Tensors:
    """One call without gradients. Raises ModelNotRunnableError when torch fails."""
    with _quietly():
        outputs: Tensors = module(*call.inputs)
    return outputs


def reach_quietly(module: GraphModule, call: Call) -> None:
    """The same, as far as the values that are watched."""
    with _quietly():
        module.reach(*call.inputs)


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        with torch.no_grad():
            yield
    except RuntimeError as error:
        raise_if_memory(error)
        raise ModelNotRunnableError(f"torch fails on the model: {str(error)[:200]}") from error


def column_spreads(seen: Observed, unfoldings: Sequence[Unfolding]) -> list[Spread]:
    """Mean and variance of every column (groups · columns) of what each operator reads."""
    found = [Spread() for _ in unfoldings]
    for call, values in seen.values([item.data for item in unfoldings]):
        for spread, item in zip(found, unfoldings, strict=True):
            data = values[item.data]
            rows = item.rows(data, seen.passes.positions(call, item.positions(data)))
            spread.add(rows.movedim(3, 1).flatten(2).flatten(0, 1))
    return found


def norms(seen: Observed, unfoldings: Sequence[Unfolding]) -> list[torch.Tensor]:
    """Sum of squares over the positions of one sample, mean over samples, of every column that each operator
    reads: (groups, columns), float64. Zeros of padding count."""
    sums: list[torch.Tensor | None] = [None] * len(unfoldings)
    samples = [0] * len(unfoldings)
    for call, values in seen.values([item.data for item in unfoldings]):
        for place, item in enumerate(unfoldings):
            data = values[item.data]
            there = item.positions(data)
            rows = item.rows(data, seen.passes.positions(call, there)).double()
            part = rows.square().mean(dim=2).sum(dim=1) * there
            before = sums[place]
            sums[place] = part if before is None else before + part
            samples[place] += rows.shape[1]
    return [total / count for total, count in zip(sums, samples, strict=True) if total is not None]


def grams(seen: Observed, unfoldings: Sequence[Sequence[Unfolding]]) -> Iterator[tuple[int, Moments]]:
    """Moments of what each weight reads, over all its uses, by the weight's number; as many in one pass as
    memory allows, none kept."""
    for piece in _pieces([_gram_bytes(uses[0]) for uses in unfoldings]):
        found = {number: _empty(unfoldings[number][0], seen.device) for number in piece}
        reads = [item.data for number in piece for item in unfoldings[number]]
        for call, values in seen.values(reads):
            for number, moments in found.items():
                for item in unfoldings[number]:
                    data = values[item.data]
                    rows = item.rows(data, seen.passes.positions(call, item.positions(data)))
                    moments.add(rows.flatten(1, 2))
        while found:
            number = next(iter(found))
            yield number, found.pop(number)


@final
@dataclass(frozen=True, eq=False)
class Taught:
    """An operator of a student, the teacher's value that it is to make, and what the student's operator adds
    to its outputs by itself (groups, 1, 1, outputs), which weights need not explain."""

    item: Unfolding
    value: ir.Value
    added: torch.Tensor


def paired(
    student: Observed, teacher: GraphModule, taught: Sequence[Taught], found: Evidence, rows: int
) -> None:
    """Add to the evidence what the student reads at these operators and what is to come out of them, so many
    rows of it."""
    with teacher.watching(dict.fromkeys(one.value for one in taught)) as made:
        for call, values in student.values([one.item.data for one in taught]):
            reach_quietly(teacher, call)
            for one in taught:
                data = values[one.item.data]
                positions = student.passes.positions(call, one.item.positions(data), rows)
                read = one.item.rows(data, positions)
                results = one.item.results(made[one.value], positions)
                results = results - one.added.to(results)
                found.add(read.flatten(1, 2), results.flatten(1, 2))


def channel_spreads(
    seen: Observed, values: Sequence[ir.Value], channels: Callable[[ir.Value, torch.Tensor], torch.Tensor]
) -> list[Spread]:
    """Mean and variance of values whose channels a function brings to the front: (channels, anything)."""
    found = [Spread() for _ in values]
    for _, tensors in seen.values(values):
        for spread, value in zip(found, values, strict=True):
            spread.add(channels(value, tensors[value]))
    return found


def shares_above_zero(seen: Observed, values: Sequence[ir.Value]) -> list[torch.Tensor]:
    """How often each element of a value is positive: over samples (the first axis), float64."""
    sums: list[torch.Tensor | None] = [None] * len(values)
    samples = [0] * len(values)
    for _, tensors in seen.values(values):
        for place, value in enumerate(values):
            part = (tensors[value] > 0).sum(dim=0).double()
            before = sums[place]
            sums[place] = part if before is None else before + part
            samples[place] += tensors[value].shape[0]
    return [total / count for total, count in zip(sums, samples, strict=True) if total is not None]


def _gram_bytes(item: Unfolding) -> int:
    return 8 * item.groups * item.columns**2


def _empty(item: Unfolding, device: str) -> Moments:
    return Moments(item.groups, item.columns, 0, device)


def _pieces(sizes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of neighbours that fit into the budget together; one that does not stands alone."""
    piece: list[int] = []
    total = 0
    for number, size in enumerate(sizes):
        if piece and total + size > _GRAMS_AT_ONCE:
            yield piece
            piece, total = [], 0
        piece.append(number)
        total += size
    if piece:
        yield piece
