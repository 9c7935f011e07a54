"""What closed-form recoveries work with: the pruned network and the upload side by side, in torch, on the
same rows; what is learnt is written to the file's tensors and to the module at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Self, final

import numpy as np
import onnx_ir as ir
import torch

from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.errors import NeedsDatasetError
from worker.engine.formats.base import Array, Network
from worker.engine.formats.graph_module import GraphModule, graph_module
from worker.engine.learning.activations import Call, Observed, Passes, observed, run_quietly
from worker.engine.learning.batching import Tensors
from worker.engine.recovery.base import Pruned

#: Share of the rows that is held out when nobody has held out any.
_HELD_OUT = 0.2
_SHOWN = 5
#: Numbers in the teacher's answers up to which they are kept.
_KEPT = 2**24
_FLOATS = (np.float32, np.float64)


@final
class Lesson:
    """A student, which is the pruned network, and its teacher, the upload."""

    def __init__(self, pruned: Pruned, student: Observed, held_out: Passes, teacher: GraphModule) -> None:
        self.pruned, self.student, self.teacher = pruned, student, teacher
        self._held_out = held_out
        values = [value for node in pruned.original.structure.graph for value in node.outputs]
        self._names = {value.name: value for value in values if value.name}
        self._before: dict[ir.Value, Array] = {}
        self._distance: float | None = None
        self._expected: list[Tensors] | None = None
        self._skipped: dict[str, str] = {}

    @classmethod
    def begin(cls, pruned: Pruned, rows: int, context: Context) -> Self:
        """Both networks ready to run over so many rows of the data, and over as many held out."""
        learning, held_out = _rows(pruned, context.seed)
        student = observed(pruned.network, learning, rows, context.seed, context.device)
        passes = Passes(student.passes.batcher.over(held_out.sample(rows, context.seed)), context.seed)
        return cls(pruned, student, passes, graph_module(pruned.original, context.device))

    @property
    def held_out(self) -> Observed:
        """The student over the rows held out."""
        return Observed(self.student.module, self._held_out)

    def counterpart(self, value: ir.Value) -> ir.Value | None:
        """The teacher's value of the same name."""
        return self._names.get(value.name or "")

    def write(self, value: ir.Value, array: Array) -> None:
        """Give a stored tensor new content, in the file and in the student."""
        network, module = self.pruned.network, self.student.module
        self._before.setdefault(value, np.array(network.read(value)))
        network.write(value, array)
        tensor = module.weights.get(value, module.running.get(value))
        if tensor is None:  # a constant to the module, perhaps folded into others: build it anew
            fresh = graph_module(network, self.student.device)
            self.student = Observed(fresh, self.student.passes)
            return
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.array(array, np.float64)))

    def attempt(self, change: Callable[[], None]) -> bool:
        """Make a change; False, and everything as before, where outputs get further from the teacher's."""
        before = self.distance() if self._distance is None else self._distance
        self._before = {}
        change()
        after = self.distance() if self._before else before
        kept = after <= before
        if not kept:
            for value, array in list(self._before.items()):
                self.write(value, array)
        self._distance = after if kept else before
        return kept

    def distance(self) -> float:
        """How far the student's outputs lie from the teacher's on the rows held out: one less the share of
        equal answers where outputs are scores of classes, then the error relative to the teacher's spread."""
        meter = _Distance()
        for call, expected in self._answers():
            meter.add(expected, run_quietly(self.student.module, call))
        return meter.total

    def _answers(self) -> Iterator[tuple[Call, Tensors]]:
        """The teacher's outputs for the rows held out, kept where they are not too many: it never changes."""
        if self._expected is not None:
            yield from zip(self._held_out, self._expected, strict=True)
            return
        gathered: list[Tensors] = []
        for call in self._held_out:
            outputs = run_quietly(self.teacher, call)
            yield call, outputs
            for_each = sum(one.numel() for one in outputs) / max(1, call.rows)
            if for_each * self._held_out.batcher.data.rows <= _KEPT:
                gathered.append(outputs)
        if gathered:
            self._expected = gathered

    def skip(self, name: str, reason: str) -> None:
        """Note that a layer is left as it is."""
        self._skipped[name] = reason

    def close(self, part: str, context: Context) -> None:
        """Tell what was left as it is."""
        if self._skipped:
            shown = "; ".join(f"{name}: {why}" for name, why in list(self._skipped.items())[:_SHOWN])
            more = f"; and {len(self._skipped) - _SHOWN} more" if len(self._skipped) > _SHOWN else ""
            context.warn(f"{part} left {len(self._skipped)} layers as they were ({shown}{more})")


def is_plain(network: Network, value: ir.Value) -> bool:
    """True for stored tensors of a type that keeps what a closed form finds: float32 or float64."""
    return network.writable(value) and network.read(value).dtype in _FLOATS


@final
class _Distance:
    """Gathers how far outputs lie from those of a teacher."""

    def __init__(self) -> None:
        self._error, self._energy, self._other, self._answers = 0.0, 0.0, 0, 0

    def add(self, expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> None:
        """Count in the outputs of one call."""
        for right, made in zip(expected, found, strict=True):
            if not right.is_floating_point():
                continue
            self._error += float((right.double() - made.double()).square().sum())
            self._energy += float(right.double().square().sum())
            if right.dim() == 2 and right.shape[1] > 1:
                self._other += int((right.argmax(1) != made.argmax(1)).sum())
                self._answers += right.shape[0]

    @property
    def total(self) -> float:
        """The share of other answers counts first, whatever the error."""
        relative = self._error / (self._energy + self._error) if self._energy + self._error else 0.0
        return (self._other / self._answers if self._answers else 0.0) + 1e-6 * relative


def _rows(pruned: Pruned, seed: int) -> tuple[Dataset, Dataset]:
    if pruned.data is None:
        raise NeedsDatasetError("the recovery looks at data, and none was given")
    if pruned.validation is not None:
        return pruned.data, pruned.validation
    return pruned.data.split(_HELD_OUT, seed)
