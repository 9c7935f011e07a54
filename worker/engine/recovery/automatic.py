"""The recovery that goes with what was uploaded."""

from collections.abc import Sequence
from typing import ClassVar, Final, final

from pydantic import Field

from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.errors import InvalidRecipeError, ModelNotRunnableError
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.distillation import Distillation
from worker.engine.recovery.fine_tune import FineTuning
from worker.engine.recovery.healing import heal_by
from worker.engine.recovery.reconstruction import Reconstruction

#: Rows from which on training is tried: fewer are learnt by heart.
_ENOUGH: Final = 64


@final
class Chosen(Recovery):
    """A recovery that was chosen for the user: where it cannot be done, the job goes on without."""

    notes_gain: ClassVar[bool] = True

    part: Recovery
    because: str

    def heal(self, pruned: Pruned, context: Context) -> None:
        _attempt(self.part, pruned, context, self.because)


@final
class ChosenBeforeShrinking(Recovery):
    """The same for one that works before channels leave the file."""

    before_shrinking: ClassVar[bool] = True
    notes_gain: ClassVar[bool] = True

    part: Recovery
    because: str

    def heal(self, pruned: Pruned, context: Context) -> None:
        _attempt(self.part, pruned, context, self.because)


@final
class AutomaticRecovery(Recovery):
    """Whatever the uploaded data allows. Without data: nothing. With rows: layer-wise reconstruction of the
    kept weights, then, from 64 rows on, training: on the targets where there are any, else to imitate the
    uploaded model. A step is kept only where held-out rows say that it made the network better, and the
    report says what each gained."""

    name: ClassVar[str] = "auto"

    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Steps of training. Left out: 30 epochs, but at least 500 and at most 10,000 steps."""
    max_seconds: float | None = Field(default=900.0, gt=0.0)
    """Time for training, after which the best network so far is taken. Where it cuts training short, the
    result depends on the machine; null trains to the end."""

    def course(self, data: Dataset | None) -> Sequence[Recovery]:
        if data is None:
            return ()
        rows = f"{data.rows} {'labelled' if data.has_targets else 'unlabelled'} rows to learn from"
        first = ChosenBeforeShrinking(part=Reconstruction(), because=f"there are {rows}")
        if data.rows < _ENOUGH:
            return (first,)
        options = {"steps": self.steps, "max_seconds": self.max_seconds}
        training = FineTuning if data.has_targets else Distillation
        return (first, Chosen(part=training.model_validate(options), because=f"there are {rows}"))

    def heal(self, pruned: Pruned, context: Context) -> None:
        for part in self.course(pruned.data):
            part.heal(pruned, context)


def _attempt(part: Recovery, pruned: Pruned, context: Context, because: str) -> None:
    try:
        heal_by(part, pruned, context, because)
    except (InvalidRecipeError, ModelNotRunnableError) as error:
        context.warn(f"{part.name} was not possible: {error}")
