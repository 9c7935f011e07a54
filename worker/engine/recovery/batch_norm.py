"""Batch-norm recalibration."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, final

import onnx_ir as ir
import torch
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.context import Context
from worker.engine.learning.activations import channel_spreads
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.lesson import Lesson


@final
class BatchNormRecalibration(Recovery):
    """Takes the running means and variances of every batch norm anew, from what flows through the pruned
    network: exact over the rows, one norm after another, so that each sees what the ones before it now give.
    Weights stay bit for bit. Taken back where the outputs come to lie further from the original's."""

    name: ClassVar[str] = "batch_norm"
    before_shrinking: ClassVar[bool] = True

    rows: int = Field(default=512, ge=2, le=100_000)
    """How many rows of the data to look at; no labels are needed."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def heal(self, pruned: Pruned, context: Context) -> None:
        nodes = list(_norms(pruned))
        if not nodes:
            context.warn("the model has no batch norm with stored statistics: nothing was recalibrated")
            return
        lesson = Lesson.begin(pruned, self.rows, context)
        if not lesson.attempt(lambda: _recalibrate(lesson, nodes, context)):
            context.warn("batch-norm recalibration was taken back: outputs moved away from the original's")


def _recalibrate(lesson: Lesson, nodes: Sequence[ir.Node], context: Context) -> None:
    for done, node in enumerate(nodes, 1):
        _take_anew(lesson, node)
        context.progress(done, len(nodes), "batch norms")


def _take_anew(lesson: Lesson, node: ir.Node) -> None:
    data, _, _, mean, variance = node.inputs[:5]
    if data is None or mean is None or variance is None:
        return
    (spread,) = channel_spreads(lesson.student, [data], _channels_first)
    for value, found in ((mean, spread.means), (variance, spread.variance)):
        stored = lesson.pruned.network.read(value)
        lesson.write(value, found.cpu().numpy().reshape(stored.shape).astype(stored.dtype))


def _channels_first(_value: ir.Value, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.movedim(1, 0).flatten(1)


def _norms(pruned: Pruned) -> Iterator[ir.Node]:
    """Batch norms of the main graph whose statistics are theirs alone."""
    for node in pruned.network.structure.graph:
        if node.op_type == "BatchNormalization" and all(_own(pruned, value) for value in node.inputs[3:5]):
            yield node


def _own(pruned: Pruned, value: ir.Value | None) -> bool:
    return value is not None and pruned.network.writable(value) and len(value.uses()) == 1
