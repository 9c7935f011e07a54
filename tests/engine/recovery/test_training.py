"""Fine-tuning and distillation: what they give back, that masks hold, that runs repeat and go on."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from api_schemas.jobs import InputSpec
from api_schemas.recipe import PartSpec
from tests.engine.formats.files import frozen, save_jit, scripted
from tests.engine.learning.digits import convolutional, perceptron, trained
from tests.engine.learning.test_training import Killed, KilledAt
from tests.engine.recovery.case import Case, holds, weights
from worker.engine import formats, registry
from worker.engine.checkpoint import Checkpoints
from worker.engine.errors import InvalidRecipeError, NeedsDatasetError, NeedsLabelsError
from worker.engine.formats.base import LoadOptions
from worker.engine.learning import training
from worker.engine.learning.optimisers import Optimiser, Settings
from worker.engine.learning.precision import Precision
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
    assert healed > cut + 0.8 * (full - cut)
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


@FORMATS
@pytest.mark.parametrize("product", [torch.bfloat16, torch.float16])
def test_mixed_precision_learns_as_well(tmp_path, monkeypatch, format, product):
    """On a CPU, where a recipe does not get it: the types are mixed as on a GPU."""
    mixed = Precision(torch.device("cpu"), product)
    monkeypatch.setattr(training, "precision", lambda _name, _device: mixed)
    case = Case.of(tmp_path, convolutional, format)
    pruned, context = case.pruned(), case.context()
    FineTuning(steps=150, learning_rate=3e-3).heal(pruned, context)
    assert context.healed[0].after > context.healed[0].before + 0.4
    assert holds(pruned)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@FORMATS
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_gpu_heals_in_every_precision(tmp_path, format, precision):
    case = Case.of(tmp_path, convolutional, format)
    pruned, context = case.pruned(), case.context()
    context.device = "cuda"
    FineTuning(steps=150, precision=precision).heal(pruned, context)
    assert context.healed[0].after > context.healed[0].before + 0.4
    assert holds(pruned)


def test_weights_in_half_precision_take_steps_smaller_than_they_can_hold(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(4, 4)).bfloat16().eval()
    torch.nn.init.ones_(module[0].weight)
    path = save_jit(scripted(module), tmp_path / "m.pt")
    network = formats.load(path, LoadOptions(inputs={"input": InputSpec(shape=[1, 4], dtype="bfloat16")}))
    trainable = network.trainable()
    parameters = list(trainable.parameters.values())
    optimiser = Optimiser(parameters, {}, Settings("sgd", 0.0, momentum=0.0))
    for _ in range(16):
        optimiser.clear()
        optimiser.set_rate(2.0**-11)  # a bfloat16 near 1 moves by 2^-8 at least
        trainable.module(torch.ones(1, 4, dtype=torch.bfloat16))[0].sum().backward()
        optimiser.step(torch.amp.GradScaler("cpu", enabled=False), None)
    trainable.store()
    (weight,) = [network.read(v) for v, p in trainable.parameters.items() if p.dim() == 2]
    np.testing.assert_array_equal(weight.astype(np.float32), np.full((4, 4), 1 - 2.0**-7, np.float32))


def test_a_frozen_module_is_refused_with_the_reason(tmp_path):
    path = save_jit(frozen(trained(perceptron)), tmp_path / "m.pt")
    case = Case(tmp_path, path)
    with pytest.raises(InvalidRecipeError, match="constants of its code"):
        FineTuning(steps=5).heal(case.pruned(), case.context())


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 0}, {"learning_rate": 0.0}, {"optimiser": "lbfgs"}, {"clip": -1.0}]
)
def test_options_have_bounds(wrong):
    with pytest.raises(ValidationError):
        FineTuning.model_validate(wrong)
