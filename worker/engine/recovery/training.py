"""What recoveries that train have in common: their options, one run of training, its record."""

import abc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Final, Literal

from pydantic import Field

from api_schemas.report import CurvePoint, RecoveryReport
from worker.engine.context import Context, quietly
from worker.engine.graph.layer import Layer
from worker.engine.learning.batching import Batcher
from worker.engine.learning.objective import Figure, Objective
from worker.engine.learning.optimisers import OptimiserName, Settings
from worker.engine.learning.precision import PrecisionName
from worker.engine.learning.rates import Schedule
from worker.engine.learning.training import Point, TrainingOptions, TrainingRecord, train
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.classroom import Classroom
from worker.engine.recovery.trials import tried

ASKED: Final = "the recipe asks for it"
#: Steps that are made when nobody says how many: these many epochs, within these bounds. Mixtures of few
#: rows are never the same ones, and more of them is learnt from.
_EPOCHS, _FEWEST, _FEWEST_MIXED, _MOST = 30, 500, 1500, 10_000
#: Products of weights that training may cost when nobody says how many steps, the teacher's included: about
#: a quarter of an hour on two slow cores. A count ends training at the same step on every machine, a clock
#: does not; a GPU makes a hundred times as many.
_PRODUCTS, _PRODUCTS_GPU, _LEAST = 2 * 10**13, 2 * 10**15, 20
#: Passes that one step costs: forward, twice that backward, and one of the teacher.
_PASSES = 4
#: Rates that are tried where none is given.
_ADAPTIVE: Final = (3e-4, 1e-3, 3e-3, 1e-2)
_RATES: Final[dict[OptimiserName, tuple[float, ...]]] = {
    "adamw": _ADAPTIVE,
    "adam": _ADAPTIVE,
    "sgd": (1e-3, 1e-2, 1e-1),
}
#: Rows in a batch from which on its own statistics are worth something.
_STATISTICS_FROM: Final = 16
#: Points of the curve that a report shows at most.
_SHOWN: Final = 200


class TrainingRecovery(Recovery, abc.ABC):
    """Abstract: training of what is left."""

    notes_gain: ClassVar[bool] = True

    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Steps of the optimiser. Left out: 30 epochs, but at least 500 (with mixtures of rows 1,500) and at most
    10,000 steps, and no more than 2·10¹³ products of weights (a hundred times that on a GPU)."""
    batch: int = Field(default=64, ge=1, le=65_536)
    """Rows in a step. A model that is bound to fewer rows is run several times for one step."""
    optimiser: OptimiserName = "adamw"
    """AdamW, Adam, or SGD with momentum."""
    learning_rate: float | None = Field(default=None, gt=0.0, le=100.0)
    """The highest learning rate. Left out: the one of 0.0003, 0.001, 0.003 and 0.01 (SGD: 0.001, 0.01, 0.1)
    that does best in trials of 1/20 of the steps, at most 100; what gets furthest in a short run is too high
    for a long one, so that from 250 steps on it falls with their number, to a third at 750. A run that gets
    out of hand goes back to its best network and on at a tenth of the rate, twice at most."""
    rate: Schedule = "cosine"
    """How the rate goes on after warm-up: half a cosine down to a hundredth, or constant."""
    warm_up: float = Field(default=0.05, ge=0.0, le=1.0)
    """The share of the steps in which the rate rises from zero."""
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    """SGD's momentum."""
    nesterov: bool = True
    """Whether SGD's momentum is Nesterov's."""
    weight_decay: float = Field(default=0.01, ge=0.0, le=10.0)
    """Decay of weights, not of biases and the scales of norms. Adam and SGD add it to the gradient, AdamW
    takes it from the weight."""
    clip: float | None = Field(default=1.0, gt=0.0)
    """Gradients longer than this over all weights are made as long as this; null leaves them."""
    precision: PrecisionName = "auto"
    """What products are computed in on a GPU: `auto` is bfloat16 where the GPU has it. A CPU computes in the
    weights' own type."""
    batch_norm: Literal["auto", "batch", "stored"] = "auto"
    """By which statistics batch norm normalises in training: those of each batch, which also move the stored
    ones, or the stored ones, which then stay. `auto` takes what does better in the trial; the batch's are
    tried from 16 rows on."""
    patience: int | None = Field(default=12, ge=1, le=1000)
    """Training ends when so many figures of the held-out rows in a row were no better (10 to 40 are taken on
    the way); null goes on to the last step. The best network is kept in any case."""
    max_seconds: float | None = Field(default=None, gt=0.0)
    """Training ends after this time with the best network so far, which then depends on the machine."""

    def heal(self, pruned: Pruned, context: Context) -> None:
        begun = time.monotonic()
        room = self.classroom(pruned, context)
        objective = self.objective(room, pruned)
        judging = room.judging(objective)

        def run(options: TrainingOptions, around: Context) -> TrainingRecord:
            return train(room.student, objective, room.batches, judging, options, pruned.masks, around)

        asked = self._options(room, pruned, context)
        options = self._settled(asked, room, context, lambda trial: run(trial, quietly(context)))
        record = run(options, context)
        if record.improved:
            room.student.store()
        report = self._report(record, judging.objective, room)
        context.healed.append(report.model_copy(update={"seconds": time.monotonic() - begun}))

    def _settled(
        self,
        asked: TrainingOptions,
        room: Classroom,
        context: Context,
        run: Callable[[TrainingOptions], TrainingRecord],
    ) -> TrainingOptions:
        """All options, found by trial where nobody gave them; who goes on keeps what was found before."""
        rates = _RATES[self.optimiser] if self.learning_rate is None else (self.learning_rate,)
        saved = context.checkpoints.load()
        if saved is not None and "found" in saved.state:
            return replace(asked, **saved.state["found"])
        options = tried(asked, rates, self._modes(room), run, room.student)
        found = {"learning_rate": options.learning_rate, "batch_statistics": options.batch_statistics}
        context.checkpoints.save({"found": found}, forced=True)
        return options

    @abc.abstractmethod
    def classroom(self, pruned: Pruned, context: Context) -> Classroom:
        """Student and teacher on their rows."""

    @abc.abstractmethod
    def objective(self, room: Classroom, pruned: Pruned) -> Objective:
        """What is made small."""

    def _options(self, room: Classroom, pruned: Pruned, context: Context) -> TrainingOptions:
        affordable = steps_within(pruned.graph.layers, self.batch, on_gpu=context.device != "cpu")
        steps = self.steps or min(steps_for(room.batches, self.batch), affordable)
        return TrainingOptions(
            steps=steps,
            learning_rate=self.learning_rate or 0.0,
            optimiser=Settings(self.optimiser, self.weight_decay, self.momentum, self.nesterov),
            schedule=self.rate,
            warm_up=self.warm_up,
            clip=self.clip,
            precision=self.precision,
            batch_statistics=self.batch_norm == "batch",
            figures=figures_for(steps * self.batch, room.held_out.judged),
            patience=self.patience,
            max_seconds=self.max_seconds,
            seed=context.seed,
        )

    def _modes(self, room: Classroom) -> Sequence[bool]:
        """Whether batch norm may go by each batch: one answer, or both where a trial is to tell."""
        rows = room.batches.per_call or min(self.batch, room.batches.data.rows)
        if self.batch_norm != "auto" or not room.student.statistics:
            return (self.batch_norm == "batch",)
        return (True, False) if rows >= _STATISTICS_FROM else (False,)

    def _report(self, record: TrainingRecord, objective: Objective, room: Classroom) -> RecoveryReport:
        return RecoveryReport(
            recovery=self.name,
            chosen_because=ASKED,
            metric=objective.metric,
            lower_is_better=objective.accuracy_name is None,
            uploaded=shown(room.judging(objective).figure(room.teacher.module), objective),
            before=shown(record.before, objective),
            after=shown(record.after, objective),
            rows=room.batches.data.rows,
            validation_rows=room.held_out.data.rows,
            steps=record.steps,
            best_step=record.best_step,
            seconds=record.seconds,
            kept=record.improved,
            remark=record.ended,
            curve=[_point(point, objective) for point in thinned(record.curve, _SHOWN)],
        )


def steps_for(batches: Batcher, batch: int) -> int:
    """How many steps are made when nobody says, whatever they cost."""
    rows, mixed = batches.data.rows, batches.mixing is not None
    epochs = math.ceil(_EPOCHS * rows / min(batch, rows))
    return min(max(epochs, _FEWEST_MIXED if mixed else _FEWEST), _MOST)


def steps_within(layers: Sequence[Layer], batch: int, *, on_gpu: bool) -> int:
    """How many steps a network of these layers may make when nobody says; a layer whose maps have no known
    size counts as one that is used once per row."""
    products = sum(layer.size if layer.macs is None else layer.macs for layer in layers)
    most = _PRODUCTS_GPU if on_gpu else _PRODUCTS
    return max(most // max(1, products * batch * _PASSES), _LEAST)


def figures_for(rows_learnt: int, rows_judged: int) -> int:
    """How many figures are taken: as many as cost about a fifth of the training, from 10 to 40."""
    return min(max(round(0.6 * rows_learnt / rows_judged), 10), 40)


def shown(figure: Figure, objective: Objective) -> float | None:
    """The number of a figure that decides; None where it is none."""
    value = figure.loss if objective.accuracy_name is None else figure.accuracy
    return value if value is not None and math.isfinite(value) else None


def thinned(curve: Sequence[Point], most: int) -> list[Point]:
    """At most so many points, evenly; those with figures and the last stay first of all."""
    every = max(1, math.ceil(len(curve) / most))
    if every == 1:
        return list(curve)
    kept = {index for index in range(len(curve)) if index % every == every - 1}
    kept |= {index for index, point in enumerate(curve) if point.figure is not None}
    return [curve[index] for index in sorted(kept)][-most:]


def _point(point: Point, objective: Objective) -> CurvePoint:
    figure = point.figure
    accuracy = None if figure is None or objective.accuracy_name is None else figure.accuracy
    return CurvePoint(
        step=point.step,
        loss=point.loss if math.isfinite(point.loss) else None,
        learning_rate=point.rate,
        validation_loss=figure.loss if figure is not None and figure.finite else None,
        validation_metric=accuracy,
    )
