"""The recovery that goes with what was uploaded."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Final, final

from pydantic import ConfigDict, Field, SkipValidation

from api_schemas.report import RecoveryReport
from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.errors import InvalidRecipeError, ModelNotRunnableError
from worker.engine.formats.base import Network
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.distillation import Distillation
from worker.engine.recovery.fine_tune import FineTuning
from worker.engine.recovery.healing import WeightsNow, heal_by
from worker.engine.recovery.reconstruction import Reconstruction

#: Rows from which on training is tried: fewer are learnt by heart.
_ENOUGH: Final = 64
#: What reconstruction must give back of what was lost, to be what training begins with. Where little is left
#: of a network, training gets further from the weights that the criterion kept.
_A_GOOD_START: Final = 0.9


@final
class Course:
    """What the steps of one healing know of each other: the weights before reconstruction, where these may be
    the better start for training, and the network that they are of."""

    def __init__(self) -> None:
        self.network: Network | None = None
        self.weights: WeightsNow | None = None


class _Chosen(Recovery):
    """A recovery that was chosen for the user: where it cannot be done, the job goes on without."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    notes_gain: ClassVar[bool] = True

    part: Recovery
    because: str
    course_: Annotated[Course, SkipValidation]

    def attempt(self, pruned: Pruned, context: Context) -> RecoveryReport | None:
        """Heal, and what was noted of it; None, with a warning, where it was not possible."""
        try:
            heal_by(self.part, pruned, context, self.because)
        except (InvalidRecipeError, ModelNotRunnableError) as error:
            context.warn(f"{self.part.name} was not possible: {error}")
            return None
        return context.healed[-1]


@final
class ChosenClosedForm(_Chosen):
    """One that works before channels leave the file."""

    before_shrinking: ClassVar[bool] = True

    def heal(self, pruned: Pruned, context: Context) -> None:
        weights = WeightsNow(pruned)
        told = self.attempt(pruned, context)
        if told is not None and told.kept and _given_back(told) < _A_GOOD_START:
            self.course_.network, self.course_.weights = pruned.network, weights


@final
class ChosenTraining(_Chosen):
    """Training; from the weights before reconstruction, where this gave little back. The better is kept."""

    def heal(self, pruned: Pruned, context: Context) -> None:
        before = self.course_.weights if self.course_.network is pruned.network else None
        if before is None:
            self.attempt(pruned, context)
            return
        reconstructed, noted = WeightsNow(pruned), len(context.healed) - 1
        before.put_back()
        told = self.attempt(pruned, context)
        if told is None or _worse(told, context.healed[noted]):
            reconstructed.put_back()
            _note(context, noted + 1, kept=False, remark="the network before was better than what it came to")
        else:
            _note(context, noted, kept=False, remark="training got further from the weights before it")


@final
class AutomaticRecovery(Recovery):
    """Whatever the uploaded data allows. Without data: nothing. With rows: layer-wise reconstruction of the
    kept weights, then, from 64 rows on, training: on the targets where there are any, else to imitate the
    uploaded model. Training begins with what reconstruction made if that gave back most of what was lost,
    else with the pruned weights. Held-out rows decide what is kept, and the report says what each gained."""

    name: ClassVar[str] = "auto"

    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Steps of training. Left out: 30 epochs, but at least 500 (without labels 1,500) and at most 10,000
    steps, and no more than 2·10¹³ products of weights (a hundred times that on a GPU)."""
    max_seconds: float | None = Field(default=3600.0, gt=0.0)
    """Time for training, after which the best network so far is taken. Where it cuts training short, which a
    machine far too slow for the network does, the result depends on the machine; null trains to the end."""

    def course(self, data: Dataset | None) -> Sequence[Recovery]:
        if data is None:
            return ()
        labelled = "labelled" if data.has_targets else "unlabelled"
        because, course = f"there are {data.rows} {labelled} rows to learn from", Course()
        first = ChosenClosedForm(part=Reconstruction(), because=because, course_=course)
        if data.rows < _ENOUGH:
            return (first,)
        options = {"steps": self.steps, "max_seconds": self.max_seconds}
        training = FineTuning if data.has_targets else Distillation
        part = training.model_validate(options)
        return (first, ChosenTraining(part=part, because=because, course_=course))

    def heal(self, pruned: Pruned, context: Context) -> None:
        for part in self.course(pruned.data):
            part.heal(pruned, context)


def _given_back(told: RecoveryReport) -> float:
    """The share of what pruning took that came back; all of it where nothing is known."""
    if told.uploaded is None or told.before is None or told.after is None or told.uploaded == told.before:
        return 1.0
    return (told.after - told.before) / (told.uploaded - told.before)


def _worse(one: RecoveryReport, other: RecoveryReport) -> bool:
    if one.after is None or other.after is None:
        return one.after is None
    return one.after > other.after if one.lower_is_better else one.after < other.after


def _note(context: Context, place: int, **changes: object) -> None:
    if place < len(context.healed):
        context.healed[place] = context.healed[place].model_copy(update=changes)
