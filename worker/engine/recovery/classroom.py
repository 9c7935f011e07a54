"""What recoveries that train start from: student and teacher in torch, rows to learn from and to judge by."""

from dataclasses import dataclass
from typing import Final, final

import torch

from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.errors import InvalidRecipeError, NeedsDatasetError
from worker.engine.formats.trainable import Trainable
from worker.engine.learning.batching import Batcher, Rows, Tensors, batcher_for, run
from worker.engine.learning.objective import Objective
from worker.engine.learning.objectives import Imitating, Mixed, Supervised
from worker.engine.learning.validation import BATCH, Validation
from worker.engine.recovery.base import Pruned

#: Share of the rows that is held out where nobody has held out any.
_HELD_OUT: Final = 0.2
#: Rows whose mixtures the upload is asked about before training relies on its answers.
_ASKED: Final = 16


@final
@dataclass(frozen=True, eq=False)
class Classroom:
    """Student and teacher, their rows, and the teacher's outputs for the first batch of them."""

    student: Trainable
    teacher: Trainable
    batches: Batcher
    held_out: Batcher
    first: Rows
    taught: Tensors

    @property
    def labelled(self) -> bool:
        """Whether the rows have targets."""
        return self.first.targets is not None

    def judging(self, loss: Objective | None = None) -> Validation:
        """Judges by the targets where there are any, else by the upload; `loss` settles ties. Without
        targets mixtures of the rows are judged as well: what few rows leave open lies between them."""
        judge: Objective = (
            Supervised(self.first, self.taught)
            if self.labelled
            else Imitating(self.teacher.module, self.taught)
        )
        objective = judge if loss is None else Mixed([(loss, 1.0)], judge)
        return Validation(objective, self.held_out)


def enter(
    pruned: Pruned,
    student: Trainable,
    teacher: Trainable,
    size: int,
    context: Context,
    *,
    mixing: bool = False,
) -> Classroom:
    """Everything ready, in batches of `size` rows, or with `mixing` of their mixtures. Raises
    NeedsDatasetError without data, and what torch and the data say of each other."""
    if not student.parameters:
        raise InvalidRecipeError("the model has no weights to train: they are constants of its code")
    learning, held_out = rows_of(pruned, context.seed)
    teacher.module.requires_grad_(False)
    batches = batcher_for(student.module, student.input_names, learning, size, context.device)
    first = next(iter(batches.batches(size)))
    with torch.no_grad():
        taught = run(teacher.module, first)
    mixed = _mixtures(teacher, batches, first)
    judged = (batches if first.targets is not None else mixed).over(held_out, BATCH)
    return Classroom(student, teacher, mixed if mixing else batches, judged, first, taught)


def _mixtures(teacher: Trainable, batches: Batcher, first: Rows) -> Batcher:
    """Batches of mixtures, where rows can be mixed and the upload has finite answers between them."""
    mixed = batches.mixtures(first)
    with torch.no_grad():
        for rows in mixed.over(batches.data.sample(_ASKED)).batches():
            if not all(torch.isfinite(one).all() for one in run(teacher.module, rows)):
                return batches
    return mixed


def rows_of(pruned: Pruned, seed: int) -> tuple[Dataset, Dataset]:
    """Rows to learn from and rows held out, drawn where nobody has."""
    if pruned.data is None:
        raise NeedsDatasetError("the recovery looks at data, and none was given")
    if pruned.validation is not None:
        return pruned.data, pruned.validation
    return pruned.data.split(_HELD_OUT, seed)
