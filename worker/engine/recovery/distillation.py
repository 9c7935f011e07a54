"""Distillation from the upload: needs no labels."""

from typing import ClassVar, final

import torch
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, NeedsLabelsError
from worker.engine.learning.batching import run
from worker.engine.learning.losses import ImitationName
from worker.engine.learning.objective import Objective
from worker.engine.learning.objectives import Imitating, Mixed, Supervised
from worker.engine.recovery.base import Pruned
from worker.engine.recovery.classroom import Classroom, enter
from worker.engine.recovery.inner import Revealing, outputs_of_layers
from worker.engine.recovery.training import TrainingRecovery


@final
class Distillation(TrainingRecovery):
    """Trains what is left to give what the uploaded model gives, on mixtures of the rows of the data; no
    labels are needed. Outputs that are scores of classes are followed by the KL divergence at a temperature,
    all of them by their squared error, which also holds what scores share. Pruned weights stay zero, and the
    network that did best on held-out rows is kept, at worst the one that training began with."""

    name: ClassVar[str] = "distillation"
    source: ClassVar[str | None] = (
        "Hinton, Vinyals, Dean 2015, arXiv 1503.02531; Beyer et al., CVPR 2022, arXiv 2106.05237 (mixtures)"
    )

    loss: ImitationName = "auto"
    """How outputs are followed: `kl` (classes), `mse` (any output), or `auto`: both where classes are."""
    temperature: float = Field(default=2.0, gt=0.0, le=100.0)
    """What scores are divided by before KL compares them: larger looks more at the classes that are not
    chosen."""
    labels: float = Field(default=0.0, ge=0.0, le=1.0)
    """The weight of the targets in the loss, for data that has them; the rest goes to the uploaded model."""
    mixing: bool = True
    """Whether to learn from mixtures of two rows each, by shares drawn anew for every step, in place of the
    rows: the uploaded model answers those as well, so that few rows are not learnt by heart. Only where all
    that differs from row to row is floating-point, and `labels` is 0."""
    layers: list[str] = Field(default=[], max_length=1000)
    """Names of layers (globs) whose outputs are followed, too. ONNX alone; where channels left the file,
    only those whose outputs kept their shape."""
    layers_weight: float = Field(default=1.0, gt=0.0, le=1e6)
    """How much the outputs of those layers count."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def classroom(self, pruned: Pruned, context: Context) -> Classroom:
        student = pruned.network.trainable(context.device)
        teacher = pruned.original.trainable(context.device)
        mixing = self.mixing and not self.labels
        if not self.layers:
            return enter(pruned, student, teacher, self.batch, context, mixing=mixing)
        own, taught = outputs_of_layers(pruned, self.layers)
        seeing = Revealing(student, own), Revealing(teacher, taught)
        alike = _alike(enter(pruned, *seeing, self.batch, context), len(own))
        pair = seeing[0].only(alike), seeing[1].only(alike)
        return enter(pruned, *pair, self.batch, context, mixing=mixing)

    def objective(self, room: Classroom, pruned: Pruned) -> Objective:
        inner = len(room.teacher.output_names) - len(pruned.original.outputs) if self.layers else 0
        imitating = Imitating(
            room.teacher.module,
            room.taught,
            self.loss,
            temperature=self.temperature,
            inner=inner,
            inner_weight=self.layers_weight,
        )
        if not self.labels:
            return imitating
        if not room.labelled:
            raise NeedsLabelsError("`labels` gives targets a weight, and the data has none")
        outputs = room.taught[: len(room.taught) - inner]
        supervised = Supervised(room.first, outputs)
        return Mixed([(imitating, 1.0 - self.labels), (supervised, self.labels)], supervised)


def _alike(room: Classroom, inner: int) -> list[int]:
    """Which of the inner tensors have one shape in both networks: the others lost channels."""
    with torch.no_grad():
        own = run(room.student.module, room.first)
    pairs = zip(own[len(own) - inner :], room.taught[len(own) - inner :], strict=True)
    found = [number for number, (mine, theirs) in enumerate(pairs) if mine.shape == theirs.shape]
    if not found:
        raise InvalidRecipeError("all of the layers to follow lost channels: leave out `layers`")
    return found
