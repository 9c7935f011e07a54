"""Fine-tuning and distillation: what they give back, that masks hold, that runs repeat and go on."""

import numpy as np
import pytest
from pydantic import ValidationError

from api_schemas.recipe import PartSpec
from tests.engine.learning.digits import convolutional, perceptron
from tests.engine.learning.test_training import Killed, KilledAt
from tests.engine.recovery.case import Case, holds, weights
from worker.engine import registry
from worker.engine.checkpoint import Checkpoints
from worker.engine.errors import InvalidRecipeError, NeedsDatasetError, NeedsLabelsError
from worker.engine.recovery.base import Recovery
from worker.engine.recovery.distillation import Distillation
from worker.engine.recovery.fine_tune import FineTuning

FORMATS = pytest.mark.parametrize("format", ["onnx", "torchscript"])
PUBLISHED = {"optimiser": "adam", "rate": "constant", "warm_up": 0.0, "weight_decay": 0.0, "clip": None}


def part(name: str, **options: object) -> Recovery:
    """A part as a recipe names it."""
    return registry.resolve(Recovery, PartSpec(name=name, **options))


@FORMATS
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_fine_tuning_gives_back_what_pruning_took(tmp_path, make, format):
    case = Case.of(tmp_path, make, format)
    full, pruned, context = case.accuracy(case.pruned(0.0).network), case.pruned(), case.context()
    cut = case.accuracy(pruned.network)
    FineTuning(steps=400).heal(pruned, context)
    healed = case.accuracy(pruned.network)
    assert cut < full - 0.25
    assert healed > full - 0.05
    assert holds(pruned)
    (told,) = context.healed
    assert told.metric == "top-1 accuracy"
    assert told.before == pytest.approx(cut, abs=1e-9)
    assert told.after == pytest.approx(healed, abs=1e-9)
    assert told.kept
    assert len(told.curve) <= 240


@FORMATS
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_distillation_gives_back_most_without_any_label(tmp_path, make, format):
    case = Case.of(tmp_path, make, format, rows=512, labels=False)
    full, pruned, context = case.accuracy(case.pruned(0.0).network), case.pruned(), case.context()
    cut = case.accuracy(pruned.network)
    Distillation(steps=400).heal(pruned, context)
    healed = case.accuracy(pruned.network)
    assert healed - cut > 0.75 * (full - cut)
    assert holds(pruned)
    (told,) = context.healed
    assert told.metric == "distance from the upload"
    assert told.lower_is_better
    assert told.after < 0.5 * told.before


@FORMATS
@pytest.mark.parametrize("recovery", [FineTuning(steps=40), Distillation(steps=40)])
def test_the_same_seed_gives_the_same_weights(tmp_path, recovery, format):
    case = Case.of(tmp_path, convolutional, format)
    found = []
    for _ in range(2):
        pruned = case.pruned()
        recovery.heal(pruned, case.context())
        found.append(weights(pruned.network))
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


@FORMATS
def test_a_healing_that_was_killed_goes_on_and_ends_as_an_unbroken_one(tmp_path, format):
    case, recovery = Case.of(tmp_path, convolutional, format), FineTuning(steps=60)
    expected = case.pruned()
    recovery.heal(expected, case.context())
    killed = KilledAt(tmp_path / "first", 37)
    with pytest.raises(Killed):
        recovery.heal(case.pruned(), case.context(killed))
    pruned, context = case.pruned(), case.context(Checkpoints(tmp_path / "second", saved=killed.file))
    recovery.heal(pruned, context)
    for name, array in weights(expected.network).items():
        np.testing.assert_array_equal(array, weights(pruned.network)[name])
    assert context.healed[0].steps == 60


def test_the_papers_retraining_can_be_asked_for(tmp_path):
    case = Case.of(tmp_path, perceptron)
    pruned, context = case.pruned(0.95), case.context()
    recovery = part("fine_tune", steps=200, batch=60, learning_rate=0.0012, **PUBLISHED)
    recovery.heal(pruned, context)
    assert {point.learning_rate for point in context.healed[0].curve} == {0.0012}
    assert context.healed[0].after > context.healed[0].before + 0.2
    assert holds(pruned)


def test_a_file_bound_to_some_rows_learns_in_batches_of_more(tmp_path):
    case = Case.of(tmp_path, perceptron, batch=3)
    pruned, context = case.pruned(), case.context()
    FineTuning(steps=150, batch=32).heal(pruned, context)
    assert context.healed[0].after > context.healed[0].before + 0.2
    assert holds(pruned)


def test_labels_and_upload_can_be_mixed_and_inner_tensors_followed(tmp_path):
    case = Case.of(tmp_path, perceptron)
    pruned, context = case.pruned(), case.context()
    part("distillation", labels=0.5, layers=["*"], steps=150).heal(pruned, context)
    assert context.healed[0].after > context.healed[0].before + 0.2
    with pytest.raises(InvalidRecipeError, match="no layer 'nothing'"):
        Distillation(layers=["nothing"]).heal(case.pruned(), case.context())


def test_inner_tensors_of_torchscript_are_refused_by_name(tmp_path):
    case = Case.of(tmp_path, perceptron, "torchscript")
    with pytest.raises(InvalidRecipeError, match="ONNX"):
        Distillation(layers=["*"]).heal(case.pruned(), case.context())


def test_a_network_that_training_cannot_better_is_left_as_it_is(tmp_path):
    case = Case.of(tmp_path, convolutional, labels=False)
    pruned, context = case.pruned(0.0), case.context()
    before = weights(pruned.network)
    Distillation(steps=20).heal(pruned, context)
    assert not context.healed[0].kept
    assert context.healed[0].after == context.healed[0].before
    for name, array in weights(pruned.network).items():
        np.testing.assert_array_equal(array, before[name])


def test_what_is_missing_is_said(tmp_path):
    unlabelled = Case.of(tmp_path, perceptron, labels=False)
    with pytest.raises(NeedsLabelsError, match="the data has none"):
        FineTuning().heal(unlabelled.pruned(), unlabelled.context())
    with pytest.raises(NeedsLabelsError, match="`labels`"):
        Distillation(labels=0.5).heal(unlabelled.pruned(), unlabelled.context())
    pruned = unlabelled.pruned()
    with pytest.raises(NeedsDatasetError):
        Distillation().heal(type(pruned)(pruned.network, pruned.graph, pruned.original), unlabelled.context())


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"optimiser": "lbfgs"}, {"clip": -1.0}]
)
def test_options_have_bounds(wrong):
    with pytest.raises(ValidationError):
        FineTuning.model_validate(wrong)
