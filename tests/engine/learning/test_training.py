"""The training loop: masks, best network, resuming, budgets, runs that get out of hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from api_schemas.events import EventType
from tests.engine.formats.files import writable
from tests.engine.learning.digits import (
    TRAINING_ROWS,
    as_torchscript,
    perceptron,
    rows_file,
    trained,
)
from worker.engine.checkpoint import Checkpoints
from worker.engine.context import Context, silent
from worker.engine.data import load_dataset
from worker.engine.formats import LoadOptions, load
from worker.engine.learning.batching import batcher_for
from worker.engine.learning.objective import Figure, Objective
from worker.engine.learning.optimisers import Settings
from worker.engine.learning.training import TrainingOptions, train
from worker.engine.learning.validation import Validation


class CrossEntropy(Objective):
    loss_name = "cross-entropy"
    accuracy_name = "top-1 accuracy"

    def __init__(self, breaks_at: int | None = None) -> None:
        self.calls, self.breaks_at = 0, breaks_at

    def loss(self, batch, outputs):
        self.calls += torch.is_grad_enabled()
        loss = F.cross_entropy(outputs[0], batch.targets)
        return loss * float("nan") if self.calls == self.breaks_at else loss

    def right(self, batch, outputs):
        return int((outputs[0].argmax(1) == batch.targets).sum()), batch.rows


class Killed(BaseException):
    pass


class Case:
    """A network of which 90 % was cut, opened anew for every run, and its rows."""

    def __init__(self, folder, make=perceptron):
        self.folder = folder
        self.file = as_torchscript(trained(make), folder / "m.pt")
        self.rows = rows_file(folder / "rows.npz", slice(0, TRAINING_ROWS))
        self.held_out = rows_file(folder / "held_out.npz", slice(TRAINING_ROWS, None))

    def run(self, objective=None, *, checkpoints=None, emit=silent, **options):
        network = load(self.file, LoadOptions(inputs={"input": [1, 1, 8, 8]}))
        masks = {}
        for value in writable(network):
            array = network.read(value)
            if array.ndim > 1:
                masks[value] = np.abs(array) > np.quantile(np.abs(array), 0.9)
                network.write(value, np.where(masks[value], array, np.float32(0)))
        trainable = network.trainable()
        rows = load_dataset(self.rows, network.inputs)
        held_out = load_dataset(self.held_out, network.inputs)
        batches = batcher_for(trainable.module, trainable.input_names, rows, 64, "cpu")
        objective = objective or CrossEntropy()
        context = Context(self.folder, emit, checkpoints=checkpoints or Checkpoints())
        asked = TrainingOptions(**{"steps": 60, "learning_rate": 2e-3} | options)
        validation = Validation(objective, batches.over(held_out))
        record = train(trainable, objective, batches, validation, asked, masks, context)
        trainable.store()
        for value, mask in masks.items():
            assert not network.read(value)[~mask].any()
        network.save(self.folder / "out.pt")
        return record, (self.folder / "out.pt").read_bytes(), context


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


SETTINGS = {
    "adamw": Settings(weight_decay=0.1),
    "adam": Settings("adam", 0.0),
    "sgd": Settings("sgd", 1e-3),
    "plain": Settings("sgd", 0.0, momentum=0.0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_recovers_with_every_optimiser_and_masks_hold(case, name):
    rate = 0.05 if name in ("sgd", "plain") else 2e-3
    record, _, _ = case.run(optimiser=SETTINGS[name], learning_rate=rate, steps=150)
    assert record.after.accuracy > record.before.accuracy + 0.2
    assert record.improved
    assert record.steps == 150
    assert record.curve[-1].loss < record.curve[0].loss


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(case):
    _, first, _ = case.run()
    _, again, _ = case.run()
    _, other, _ = case.run(seed=1)
    assert first == again
    assert first != other


class KilledAt(Checkpoints):
    """Is due at one step, where it saves, and one step later the process is gone."""

    def __init__(self, folder, step, saved=None):
        super().__init__(folder, saved=saved, interval_seconds=0.0)
        self.step, self.looked, self.file = step, 0, None

    def due(self):
        self.looked += 1
        if self.looked > self.step:
            raise Killed
        return self.looked == self.step

    def save(self, state, files=None, *, forced=False):
        super().save(state, files, forced=True)
        self.file = self._last.path


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("step", [1, 20, 37])
def test_a_run_that_was_killed_goes_on_and_ends_as_an_unbroken_one(case, tmp_path, name, step):
    expected, bytes_expected, _ = case.run(optimiser=SETTINGS[name])
    killed = KilledAt(tmp_path / "first", step)
    with pytest.raises(Killed):
        case.run(optimiser=SETTINGS[name], checkpoints=killed)
    objective = CrossEntropy()
    goes_on = Checkpoints(tmp_path / "second", saved=killed.file)
    record, found, _ = case.run(objective, optimiser=SETTINGS[name], checkpoints=goes_on)
    assert objective.calls == 60 - step
    assert found == bytes_expected
    assert replace(record, seconds=0.0) == replace(expected, seconds=0.0)


def test_a_checkpoint_of_other_options_is_not_used(case, tmp_path):
    killed = KilledAt(tmp_path / "first", 20)
    with pytest.raises(Killed):
        case.run(checkpoints=killed)
    objective = CrossEntropy()
    case.run(objective, steps=50, checkpoints=Checkpoints(tmp_path / "second", saved=killed.file))
    assert objective.calls == 50


def test_it_never_leaves_a_network_worse_than_it_got(case):
    record, _, context = case.run(optimiser=Settings("sgd", 0.0), learning_rate=1e6, clip=None, warm_up=0.0)
    assert not record.before.better_than(record.after)
    assert record.ended == "it got out of hand"
    assert any("out of hand" in warning for warning in context.warnings)


def test_one_loss_that_is_no_number_costs_the_steps_since_the_best_network(case):
    record, _, _ = case.run(CrossEntropy(breaks_at=30), steps=150)
    assert record.steps == 150
    assert record.after.accuracy > record.before.accuracy + 0.2
    rates = [point.rate for point in record.curve]
    assert min(rates[5:]) < 0.2 * rates[4]


def test_it_stops_when_validation_gets_no_better(case):
    record, _, _ = case.run(learning_rate=1e-12, steps=200, patience=3)
    assert record.ended == "validation got no better"
    assert record.steps == (1 + 3) * 5  # the first figure in training is what later ones must better


def test_time_may_end_it_early(case):
    record, _, _ = case.run(steps=10_000, max_seconds=0.05)
    assert record.ended == "time was up"
    assert record.steps < 10_000


@pytest.mark.parametrize("steps", [60, 900])
def test_losses_and_rates_are_told_while_it_runs_however_short_it_is(case, steps):
    told = []
    case.run(steps=steps, emit=told.append)
    names = [event.data["name"] for event in told if event.type is EventType.METRIC]
    assert {"loss", "learning_rate", "validation_loss", "validation_accuracy"} <= set(names)
    losses = [event.data for event in told if event.data.get("name") == "loss"]
    assert all(np.isfinite(found["value"]) and 1 <= found["step"] <= steps for found in losses)


def test_the_curve_has_few_points_and_figures_at_its_end(case):
    record, _, _ = case.run(steps=900)
    assert len(record.curve) <= 250
    assert record.curve[-1].step == 900
    assert record.curve[-1].figure is not None
    assert [point.step for point in record.curve] == sorted({point.step for point in record.curve})


@pytest.mark.parametrize(
    ("one", "other", "better"),
    [
        (Figure(1.0), Figure(2.0), True),
        (Figure(2.0), Figure(1.0), False),
        (Figure(1.0), Figure(1.0), False),
        (Figure(3.0, 0.9), Figure(1.0, 0.8), True),
        (Figure(1.0, 0.8), Figure(3.0, 0.8), True),
        (Figure(float("nan"), 0.9), Figure(1.0, 0.1), False),
        (Figure(1.0, 0.1), Figure(float("inf"), 0.9), True),
    ],
)
def test_more_right_answers_are_better_then_a_smaller_loss(one, other, better):
    assert one.better_than(other) is better
