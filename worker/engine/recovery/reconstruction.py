"""Layer-wise reconstruction of the kept weights."""

import itertools
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.context import Context
from worker.engine.graph import weights
from worker.engine.graph.biases import Bias, added_inside, find_bias
from worker.engine.graph.layer import Layer
from worker.engine.graph.unfolded import all_unfolded
from worker.engine.learning.activations import ROWS_PER_WEIGHT, Observed, Taught, paired
from worker.engine.learning.moments import Evidence, Moments, Sample
from worker.engine.learning.unfolding import Unfolding
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.lesson import Lesson, is_plain

#: Damping that is tried, relative to the mean of the Gram matrix' diagonal; the held-out rows choose.
_DAMPING = (1e-3, 1e-2, 1e-1, 1.0)
#: With so many rows for every column the larger ones never win.
_PLENTY = 8
#: Columns (inputs · taps) of the widest weight whose Gram matrix is held in memory: half a gigabyte. Wider
#: ones are solved from so many rows, which are fewer than the columns.
_WIDEST, _ROWS_OF_WIDE = 8192, 2048
#: Relative gain on held-out rows below which a row stays bit for bit as it is.
_GAIN = 1e-6


@final
class Reconstruction(Recovery):
    """Chooses the kept weights of each layer anew, by least squares, so that the layer makes of what the
    healed network brings it what the original makes there: layer after layer, biases included where a layer
    has one. In closed form, from unlabelled rows; damping is chosen on held-out rows, and an output keeps its
    old weights where the new ones do not lower its error on those. Pruned weights stay zero. Weights in half
    precision and quantised ones stay as they are, with a note."""

    name: ClassVar[str] = "reconstruction"
    source: ClassVar[str | None] = (
        "Hubara et al., ICML 2021 (AdaPrune), arXiv 2102.08124; He et al., ICCV 2017, arXiv 1707.06168"
    )
    before_shrinking: ClassVar[bool] = True

    rows: int = Field(default=512, ge=2, le=100_000)
    """How many rows of the data to look at; no labels are needed."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def heal(self, pruned: Pruned, context: Context) -> None:
        lesson = Lesson.begin(pruned, self.rows, context)
        if not lesson.attempt(lambda: _all(lesson, context)):
            context.warn("reconstruction was taken back: outputs moved away from the original's")
        lesson.close("reconstruction", context)


def _all(lesson: Lesson, context: Context) -> None:
    """Every layer, in the order of the graph."""
    layers = lesson.pruned.graph.layers
    for done, layer in enumerate(layers, 1):
        task = _task(lesson, layer)
        if isinstance(task, str):
            lesson.skip(layer.name, task)
        else:
            _reconstruct(lesson, task)
        context.progress(done, len(layers), "layers")


@final
@dataclass(frozen=True, eq=False)
class _Task:
    """One layer: how its uses read their data, what is to come out of them, where a shift may go."""

    layer: Layer
    items: tuple[Unfolding, ...]
    taught: tuple[Taught, ...]
    bias: Bias | None

    @property
    def first(self) -> Unfolding:
        """All uses have one layout."""
        return self.items[0]


def _task(lesson: Lesson, layer: Layer) -> _Task | str:
    """What there is to do for a layer, or why nothing can be done."""
    network = lesson.pruned.network
    items = all_unfolded(network, layer)
    if isinstance(items, str):
        return items
    if layer.view.quantization is not None or not is_plain(network, layer.view.value):
        return f"weights of type {network.read(layer.view.value).dtype} cannot hold the solution"
    taught: list[Taught] = []
    for use, item in zip(layer.uses, items, strict=True):
        value, added = lesson.counterpart(use.node.outputs[0]), added_inside(network, use)
        if value is None or isinstance(added, str):
            return added if isinstance(added, str) else "the original has no such layer"
        taught.append(Taught(item, value, torch.from_numpy(np.array(added)).reshape(item.groups, 1, 1, -1)))
    bias = find_bias(network, lesson.pruned.graph, layer.uses[0]) if len(layer.uses) == 1 else None
    return _Task(layer, tuple(items), tuple(taught), bias)


def _reconstruct(lesson: Lesson, task: _Task) -> None:
    learnt, held_out = (_evidence(lesson, task, seen) for seen in (lesson.student, lesson.held_out))
    if learnt.count >= 2:
        _write(lesson, task, _best(lesson, task, learnt, held_out))


def _evidence(lesson: Lesson, task: _Task, student: Observed) -> Evidence:
    item = task.first
    wide = item.columns > _WIDEST
    found: Evidence = Sample() if wide else Moments(item.groups, item.columns, item.outputs, student.device)
    paired(student, lesson.teacher, task.taught, found, _ROWS_OF_WIDE if wide else ROWS_PER_WEIGHT)
    return found


def _support(pruned: Pruned, task: _Task, device: str) -> torch.Tensor:
    """Where weights may stand, (groups, outputs, columns)."""
    view = task.layer.view
    mask = pruned.masks.get(view.value)
    keep = np.ones(view.shape, dtype=bool) if mask is None else mask
    return torch.from_numpy(np.array(task.first.matrix(view.forward(keep)))).to(device)


def _present(pruned: Pruned, task: _Task, device: str) -> torch.Tensor:
    """The weights as they are, likewise."""
    values = weights.read(pruned.network, task.layer.view)
    return torch.from_numpy(np.array(task.first.matrix(values), np.float64)).to(device)


@final
@dataclass
class _Found:
    """Weights (groups, outputs, columns), a shift of every output, and where that is better than before."""

    matrix: torch.Tensor
    shift: torch.Tensor
    error: torch.Tensor
    better: torch.Tensor

    def consider(self, matrix: torch.Tensor, shift: torch.Tensor, error: torch.Tensor) -> None:
        """Take over the outputs at which another solution errs less."""
        wins = error < self.error
        self.matrix = torch.where(wins[:, :, None], matrix, self.matrix)
        self.shift = torch.where(wins, shift, self.shift)
        self.error = torch.where(wins, error, self.error)
        self.better |= wins


def _best(lesson: Lesson, task: _Task, learnt: Evidence, held_out: Evidence) -> _Found:
    """For every output the solution that errs least on the rows held out; the present one among them."""
    device, free = lesson.student.device, task.bias is not None
    support, present = _support(lesson.pruned, task, device), _present(lesson.pruned, task, device)
    nothing = torch.zeros(present.shape[:2], dtype=torch.float64, device=device)
    error = held_out.error(present, nothing) * (1 - _GAIN)
    found = _Found(present, nothing, error, torch.zeros_like(nothing, dtype=torch.bool))
    plenty = learnt.count >= _PLENTY * present.shape[2]
    solutions = (
        learnt.solve(support, present, damping, free=free)
        for damping in (_DAMPING[:2] if plenty else _DAMPING)
    )
    for matrix in itertools.chain([present] if free else [], solutions):
        shift = learnt.shift(matrix) if free else nothing
        found.consider(matrix, shift, held_out.error(matrix, shift))
    return found


def _write(lesson: Lesson, task: _Task, found: _Found) -> None:
    """Outputs that got better are stored, with pruned weights as they are; the others stay bit for bit."""
    if not found.better.any():
        return
    network, view = lesson.pruned.network, task.layer.view
    stored, mask = network.read(view.value), lesson.pruned.masks.get(view.value)
    shape = view.seen_shape()
    rows = found.better.cpu().numpy().reshape(*shape[:2], *(1,) * (len(shape) - 2))
    changed = view.back(np.ascontiguousarray(np.broadcast_to(rows, shape)))
    solution = view.back(task.first.weight(found.matrix.cpu().numpy()))
    keep = changed if mask is None else changed & mask
    lesson.write(view.value, np.where(keep, solution.astype(stored.dtype), stored))
    if task.bias is not None:
        shift = torch.where(found.better, found.shift, 0.0).cpu().numpy()
        lesson.write(task.bias.value, task.bias.shifted(network, shift))
