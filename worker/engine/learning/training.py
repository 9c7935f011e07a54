"""Training: masks hold at every step, the best network by validation is kept, and an interrupted run goes on
where it was and ends as an unbroken one would."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, final

import onnx_ir as ir
import torch

from worker.engine.context import Context
from worker.engine.formats.trainable import Trainable
from worker.engine.learning.batching import Batcher, Rows, run
from worker.engine.learning.determinism import repeatable
from worker.engine.learning.distributed import World
from worker.engine.learning.objective import Figure, Objective
from worker.engine.learning.optimisers import Optimiser, Settings
from worker.engine.learning.precision import PrecisionName, precision
from worker.engine.learning.rates import Rate, Schedule
from worker.engine.learning.state import Weights, as_bytes, from_bytes, named, numbered
from worker.engine.learning.validation import Validation
from worker.engine.types import Mask

#: Points of the curve of losses that a record keeps at most, but for those with figures.
CURVE_POINTS: Final = 200
#: How often the rate is lowered after a run that got out of hand, and by what.
_RETREATS: Final = 2
_LOWER: Final = 0.1
#: A validation loss so many times that of the start is out of hand.
_OUT_OF_HAND: Final = 10.0
_TENSORS: Final = "tensors.safetensors"


@final
@dataclass(frozen=True)
class TrainingOptions:
    """How to train. `figures` of validation are taken on the way, and `patience` of them in a row may be no
    better before it stops; `max_seconds` ends training early, with the best network so far."""

    steps: int
    learning_rate: float
    optimiser: Settings = field(default_factory=Settings)
    schedule: Schedule = "cosine"
    warm_up: float = 0.05
    clip: float | None = 1.0
    precision: PrecisionName = "auto"
    batch_statistics: bool = False
    figures: int = 40
    patience: int | None = None
    max_seconds: float | None = None
    seed: int = 0

    @property
    def figure_every(self) -> int:
        """Steps between two figures of validation."""
        return max(1, -(-self.steps // self.figures))

    @property
    def point_every(self) -> int:
        """Steps that one point of the curve is the mean of."""
        return max(1, -(-self.steps // CURVE_POINTS))


@final
@dataclass(frozen=True)
class Point:
    """Mean training loss since the point before, the rate, and the figure where one was taken."""

    step: int
    loss: float
    rate: float
    figure: Figure | None = None


@final
@dataclass(frozen=True)
class TrainingRecord:
    """What a run did: figures at the start and of the network it leaves, the curve, and why it ended."""

    before: Figure
    after: Figure
    best_step: int
    steps: int
    seconds: float
    curve: tuple[Point, ...]
    ended: str

    @property
    def improved(self) -> bool:
        """False when the network is the one it started with."""
        return self.best_step > 0


@final
@dataclass
class _Progress:
    """Numbers that a run carries from step to step."""

    step: int = 0
    best_step: int = 0
    before: Figure = field(default_factory=lambda: Figure(float("nan")))
    best: Figure = field(default_factory=lambda: Figure(float("nan")))
    least_loss: float = math.inf
    stale: int = 0
    retreats: int = 0
    seconds: float = 0.0
    curve: list[Point] = field(default_factory=list)


def train(
    trainable: Trainable,
    objective: Objective,
    batches: Batcher,
    validation: Validation,
    options: TrainingOptions,
    masks: Mapping[ir.Value, Mask],
    context: Context,
) -> TrainingRecord:
    """Train the network's parameters and leave it the best that validation saw, at worst as it was.

    The same options, data and weights give the same network on the same device, also when interrupted, as
    long as `max_seconds` does not cut it short. Nothing is written to the file: that is `store`.
    """
    with repeatable(options.seed, context.threads), context.checkpoints.scope("training"):
        return _Run(trainable, objective, batches, validation, options, masks, context).finish()


@final
class _Run:
    """One run of training."""

    def __init__(
        self,
        trainable: Trainable,
        objective: Objective,
        batches: Batcher,
        validation: Validation,
        options: TrainingOptions,
        masks: Mapping[ir.Value, Mask],
        context: Context,
    ) -> None:
        self._trainable, self._objective, self._batches = trainable, objective, batches
        self._validation, self._options, self._context = validation, options, context
        self._device, self._world = batches.device, World.present()
        self._weights = Weights(trainable)
        kept = _on_device(masks, trainable, self._device)
        self._world.share(kept.values())
        self._optimiser = Optimiser(self._weights.parameters, kept, options.optimiser)
        self._precision = precision(options.precision, self._device)
        self._scaler = self._precision.scaler()
        self._rate = Rate(options.learning_rate, options.steps, options.schedule, options.warm_up)
        self._now = _Progress()
        self._best: list[torch.Tensor] = []
        self._module = self._world.wrapped(trainable.module)
        self._losses = torch.zeros((), dtype=torch.float64, device=self._device)
        self._counted = 0
        self._begun = time.monotonic()

    def finish(self) -> TrainingRecord:
        """Make all steps, from wherever an earlier attempt came to."""
        if not self._resume():
            self._start()
        ended = self._steps()
        self._weights.put_back(self._best)
        self._trainable.batch_norm(training=False)
        now = self._now
        return TrainingRecord(
            before=now.before,
            after=now.best,
            best_step=now.best_step,
            steps=now.step,
            seconds=self._seconds(),
            curve=tuple(now.curve),
            ended=ended,
        )

    def _start(self) -> None:
        self._best = self._weights.copies()
        self._now.before = self._now.best = self._figure()

    def _figure(self) -> Figure:
        self._world.share(self._weights.statistics)  # each has moved its own by its own rows
        found = self._world.agreed(lambda: asdict(self._validation.figure(self._trainable.module)))
        return Figure(**found)

    def _steps(self) -> str:
        """Step until there is a reason to end."""
        options, now = self._options, self._now
        stream = self._batches.shuffled(options.seed, now.step, self._world)
        while now.step < options.steps:
            self._step(next(stream))
            now.step += 1
            last = now.step == options.steps
            reason = self._look() if last or now.step % options.figure_every == 0 else None
            if reason is not None:
                return reason
            self._tell()
            if self._world.first and self._context.checkpoints.due():
                self._save()
            if self._is_late():
                self._look()
                return "time was up"
        return "all steps made"

    def _step(self, batch: Rows) -> None:
        self._trainable.batch_norm(training=self._options.batch_statistics)
        self._optimiser.set_rate(self._rate.at(self._now.step) * _LOWER**self._now.retreats)
        self._optimiser.clear()
        with self._precision.computing():
            loss = self._objective.loss(batch, run(self._module, batch)) * batch.weight
        torch.autograd.backward(self._scaler.scale(loss))
        self._optimiser.step(self._scaler, self._options.clip)
        self._losses += self._world.mean(loss.detach().clone())
        self._counted += 1

    def _tell(self) -> None:
        """A point of the curve where one is due, and readings for who listens."""
        now, context = self._now, self._context
        context.progress(now.step, self._options.steps, "steps")
        if context.metric_due("loss") and self._counted:
            context.metric("loss", float(self._losses) / self._counted, now.step)
            context.metric("learning_rate", self._rate.at(now.step - 1) * _LOWER**now.retreats, now.step)
        if self._counted >= self._options.point_every:  # forgets the losses that were just told
            self._point(None)

    def _point(self, figure: Figure | None) -> None:
        rate = self._rate.at(self._now.step - 1) * _LOWER**self._now.retreats
        mean = float(self._losses) / max(1, self._counted)
        self._now.curve.append(Point(self._now.step, mean, rate, figure))
        self._losses.zero_()
        self._counted = 0

    def _look(self) -> str | None:
        """Take a figure, keep the network if it is the best; a reason to end, or None."""
        now, options = self._now, self._options
        self._trainable.batch_norm(training=False)
        figure = self._figure()
        self._tell_figure(figure)
        broken = not torch.isfinite(self._losses).item() or _out_of_hand(figure, now.before)
        self._point(figure)
        if broken:
            return self._retreat()
        if figure.better_than(now.best):
            self._best, now.best, now.best_step = self._weights.copies(), figure, now.step
        # Answers of few rows go up and down, and what was put together in closed form does worse before it
        # does better: as long as the loss gets smaller than it was in training, something is learnt.
        gains = now.best_step == now.step or figure.loss < now.least_loss
        now.least_loss = min(now.least_loss, figure.loss)
        now.stale = 0 if gains else now.stale + 1
        if options.patience is not None and now.stale >= options.patience:
            return "validation got no better"
        return None

    def _tell_figure(self, figure: Figure) -> None:
        if figure.finite:
            self._context.metric("validation_loss", figure.loss, self._now.step)
        if figure.accuracy is not None:
            self._context.metric("validation_accuracy", figure.accuracy, self._now.step)

    def _retreat(self) -> str | None:
        """Back to the best network with a lower rate; after some of it, the end."""
        self._weights.put_back(self._best)
        self._optimiser.adopt()
        self._scaler = self._precision.scaler()
        self._now.retreats += 1
        if self._now.retreats <= _RETREATS:
            return None
        self._context.warn(
            f"training got out of hand {self._now.retreats} times, last at step {self._now.step}: "
            "the best network before that is kept; a lower learning rate may do better"
        )
        return "it got out of hand"

    def _is_late(self) -> bool:
        """Whether time is up; several processes look at one clock, and not at every step."""
        most, several = self._options.max_seconds, self._world.size > 1
        if most is None or (several and self._now.step % self._options.point_every):
            return False
        return bool(self._world.agreed(lambda: self._seconds() > most))

    def _seconds(self) -> float:
        return self._now.seconds + time.monotonic() - self._begun

    def _save(self) -> None:
        numbers = asdict(self._now) | {"seconds": self._seconds()}
        tensors = {
            **named("now", self._weights.copies()),
            **named("best", self._best),
            **self._optimiser.tensors(),
            "losses": self._losses,
        }
        state: dict[str, Any] = {
            "progress": numbers,
            "counted": self._counted,
            "scaler": dict(self._scaler.state_dict()),
            "options": asdict(self._options),
        }
        self._context.checkpoints.save(state, {_TENSORS: as_bytes(tensors)})

    def _resume(self) -> bool:
        """Go on where an earlier attempt was; False where there was none, or one with other options."""
        saved = self._saved() if self._world.first else None
        state = self._world.agreed(lambda: None if saved is None else dict(saved[0]))
        if state is None:
            return False
        content = self._world.agreed_bytes(lambda: b"" if saved is None else saved[1])
        tensors = from_bytes(content, self._device)
        self._weights.put_back(numbered("now", tensors))
        self._best = numbered("best", tensors)
        self._optimiser.restore(tensors)
        self._losses, self._counted = tensors["losses"], int(state["counted"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(dict(state["scaler"]))
        self._now = _progress(state["progress"])
        return True

    def _saved(self) -> tuple[Mapping[str, Any], bytes] | None:
        saved = self._context.checkpoints.load()
        if saved is None or saved.state.get("options") != asdict(self._options):
            return None
        return saved.state, saved.files[_TENSORS].read_bytes()


def _on_device(
    masks: Mapping[ir.Value, Mask], trainable: Trainable, device: torch.device
) -> dict[int, torch.Tensor]:
    """Masks by the identity of the parameter they belong to."""
    found = {}
    for value, mask in masks.items():
        if value in trainable.parameters:
            found[id(trainable.parameters[value])] = torch.from_numpy(mask.copy()).to(device)
    return found


def _out_of_hand(figure: Figure, before: Figure) -> bool:
    worse = before.finite and figure.finite and figure.loss > _OUT_OF_HAND * max(before.loss, 1.0)
    return not figure.finite or worse


def _progress(state: Mapping[str, Any]) -> _Progress:
    curve = [Point(**{**point, "figure": _figure(point["figure"])}) for point in state["curve"]]
    before, best = Figure(**state["before"]), Figure(**state["best"])
    return _Progress(**{**state, "before": before, "best": best, "curve": curve})


def _figure(state: Mapping[str, Any] | None) -> Figure | None:
    return None if state is None else Figure(**state)
