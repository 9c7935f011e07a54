"""Fine-tuning with labels."""

from typing import ClassVar, final

from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.context import Context
from worker.engine.errors import NeedsLabelsError
from worker.engine.learning.losses import LossName
from worker.engine.learning.objective import Objective
from worker.engine.learning.objectives import Supervised
from worker.engine.recovery.base import Pruned
from worker.engine.recovery.classroom import Classroom, enter
from worker.engine.recovery.training import TrainingRecovery


@final
class FineTuning(TrainingRecovery):
    """Trains what is left on the targets. Pruned weights stay zero at every step; the network that did best
    on held-out rows is kept, at worst the one that training began with. The same data, recipe and seed give
    the same file on the same device.

    With `optimiser: adam, rate: constant, warm_up: 0, weight_decay: 0, clip: null, batch: 60` and a number
    of steps it is the retraining of the lookahead paper."""

    name: ClassVar[str] = "fine_tune"

    loss: LossName = "auto"
    """What is made small. `auto` is what the targets ask for: cross-entropy for classes, binary cross-entropy
    for scores, the squared error for values."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """The share of each label that is spread over all classes; cross-entropy alone minds it."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True, labels=True)

    def classroom(self, pruned: Pruned, context: Context) -> Classroom:
        student, teacher = (
            network.trainable(context.device) for network in (pruned.network, pruned.original)
        )
        return enter(pruned, student, teacher, self.batch, context)

    def objective(self, room: Classroom, pruned: Pruned) -> Objective:
        if not room.labelled:
            raise NeedsLabelsError("fine-tuning learns from labels, and the data has none")
        return Supervised(room.first, room.taught, self.loss, self.label_smoothing)
