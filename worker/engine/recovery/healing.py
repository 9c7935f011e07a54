"""Healing by one part, with what it gained measured beside it: no recovery does harm unseen."""

import time
from dataclasses import asdict
from typing import Final, final

import numpy as np
import onnx_ir as ir

from api_schemas.report import RecoveryReport
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, ModelNotRunnableError
from worker.engine.graph.build import constants_in
from worker.engine.learning.distributed import World
from worker.engine.learning.objective import Figure, Objective
from worker.engine.learning.validation import BATCH
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.classroom import Classroom, enter
from worker.engine.recovery.training import ASKED, shown
from worker.engine.types import Array

_UNKNOWN: Final = Figure(float("nan"))


def heal_by(part: Recovery, pruned: Pruned, context: Context, because: str = ASKED) -> None:
    """Heal by one part, and note in `context.healed` why, and how good the network was before and after.

    A network that came out worse on held-out rows is put back.
    """
    if not part.notes_gain:
        _measured(part, pruned, context, because)
        return
    noted = len(context.healed)
    part.heal(pruned, context)
    if because != ASKED:
        told = [report.model_copy(update={"chosen_because": because}) for report in context.healed[noted:]]
        context.healed[noted:] = told


def _measured(part: Recovery, pruned: Pruned, context: Context, because: str) -> None:
    begun, weights, yardstick = time.perf_counter(), WeightsNow(pruned), _Yardstick(pruned, context)
    before = yardstick.figure()
    part.heal(pruned, context)
    after = yardstick.figure() if weights.changed else before
    worse = before.better_than(after)
    if worse:
        weights.put_back()
        context.warn(f"{part.name} was taken back: on held-out rows the network did worse after it")
    context.healed.append(
        RecoveryReport(
            recovery=part.name,
            chosen_because=because,
            metric=yardstick.metric,
            lower_is_better=yardstick.lower_is_better,
            uploaded=yardstick.shown(yardstick.uploaded()),
            before=yardstick.shown(before),
            after=yardstick.shown(before if worse else after),
            rows=None if pruned.data is None else pruned.data.rows,
            validation_rows=yardstick.rows,
            seconds=time.perf_counter() - begun,
            kept=weights.changed,
        )
    )


@final
class WeightsNow:
    """What the stored tensors are now. Reading copies nothing, and writing leaves what was read as it is."""

    def __init__(self, pruned: Pruned) -> None:
        self._network = pruned.network
        values = [value for value in constants_in(pruned.network.structure) if self._network.writable(value)]
        self._before: dict[ir.Value, Array] = {value: self._network.read(value) for value in values}

    @property
    def changed(self) -> bool:
        """Whether any has other bits now."""
        return any(self._differs(value) for value in self._before)

    def put_back(self) -> None:
        """Write back those that changed."""
        for value in [value for value in self._before if self._differs(value)]:
            self._network.write(value, self._before[value])

    def _differs(self, value: ir.Value) -> bool:
        now, before = self._network.read(value), self._before[value]
        return now is not before and np.ascontiguousarray(now).tobytes() != before.tobytes()


@final
class _Yardstick:
    """How good the network is on held-out rows, by targets or by the upload; unknown where torch or the data
    do not allow to tell."""

    def __init__(self, pruned: Pruned, context: Context) -> None:
        self._pruned, self._context = pruned, context
        self._room: Classroom | None = None
        self._objective: Objective | None = None

    def figure(self) -> Figure:
        """The figure of the network as it is now; of several processes that of the first, for all."""
        found = self._figure()
        return Figure(**World.present().agreed(lambda: asdict(found)))

    def _figure(self) -> Figure:
        if self._pruned.data is None:
            return _UNKNOWN
        device = self._context.device
        try:
            student = self._pruned.network.trainable(device)
            if self._room is None:
                teacher = self._pruned.original.trainable(device)
                self._room = enter(self._pruned, student, teacher, BATCH, self._context)
            judging = self._room.judging()
            self._objective = judging.objective
            return judging.figure(student.module)
        except (InvalidRecipeError, ModelNotRunnableError):
            return _UNKNOWN

    def uploaded(self) -> Figure:
        """The figure of the uploaded model."""
        return _UNKNOWN if self._room is None else self._room.judging().figure(self._room.teacher.module)

    @property
    def metric(self) -> str | None:
        """What is measured; None where nothing is."""
        return None if self._objective is None else self._objective.metric

    @property
    def lower_is_better(self) -> bool:
        """True for errors and distances."""
        return self._objective is not None and self._objective.accuracy_name is None

    @property
    def rows(self) -> int | None:
        """Rows that it is measured on."""
        return None if self._room is None else self._room.held_out.data.rows

    def shown(self, figure: Figure) -> float | None:
        """The number that decides; None where it is none."""
        return None if self._objective is None else shown(figure, self._objective)
