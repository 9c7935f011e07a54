"""Random operators: shapes, types, moments, and one seed for all of them."""

import numpy as np
import pytest
import torch

from tests.engine.formats.conformance.suite import followed
from tests.engine.formats.operators.nodes import node_model, shaped

_MANY = (200, 200)


def _module(name, inputs, attributes, outputs=(1,), shape=_MANY, opset=20):
    model = node_model(name, inputs, outputs, attributes, opset)
    return followed(shaped(model, [np.empty(shape, np.float32)] * len(outputs)))


def _drawn(name, inputs, attributes, **more):
    torch.manual_seed(0)
    found = _module(name, inputs, attributes, **more)(*map(torch.from_numpy, inputs))
    return found if len(found) > 1 else found[0]


@pytest.mark.parametrize("like", [False, True])
def test_moments(like):
    inputs = [np.zeros(_MANY, np.float32)] if like else []
    extra = {} if like else {"shape": _MANY}
    suffix = "Like" if like else ""
    normal = _drawn(f"RandomNormal{suffix}", inputs, {"mean": 2.0, "scale": 3.0, **extra})
    assert normal.shape == _MANY
    assert abs(normal.mean() - 2) < 0.1
    assert abs(normal.std() - 3) < 0.1
    uniform = _drawn(f"RandomUniform{suffix}", inputs, {"low": -1.0, "high": 3.0, **extra})
    assert -1 <= uniform.min() < -0.99
    assert 2.99 < uniform.max() <= 3


def test_chances():
    chances = np.full(_MANY, 0.3, np.float32)
    drawn = _drawn("Bernoulli", [chances], {"dtype": 7}, outputs=(7,))
    assert drawn.dtype == torch.int64
    assert set(drawn.unique().tolist()) == {0, 1}
    assert abs(drawn.double().mean() - 0.3) < 0.02


def test_classes_by_log_probability():
    shares = np.array([[0.5, 0.3, 0.2], [0.0, 0.9, 0.1]], np.float32)
    with np.errstate(divide="ignore"):
        scores = np.log(shares)
    drawn = _drawn("Multinomial", [scores], {"sample_size": 20000}, outputs=(6,), shape=(2, 20000))
    assert drawn.dtype == torch.int32
    for row, share in zip(drawn, shares, strict=True):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 20000, share, atol=0.02)


def test_dropout_in_training_keeps_the_mean():
    inputs = [np.ones(_MANY, np.float32), np.array(0.25, np.float32), np.array(True)]
    out, kept = _drawn("Dropout", inputs, {}, outputs=(1, 9))
    assert torch.equal(out, kept / 0.75)
    assert abs(kept.double().mean() - 0.75) < 0.02


@pytest.mark.parametrize("training", [None, False])
def test_dropout_else_changes_nothing(training):
    inputs = [np.random.default_rng(0).random(_MANY).astype(np.float32), np.array(0.25, np.float32)]
    if training is not None:
        inputs.append(np.array(training))
    out, kept = _drawn("Dropout", inputs, {}, outputs=(1, 9))
    assert torch.equal(out, torch.from_numpy(inputs[0]))
    assert kept.all()


def test_the_seed_of_a_run_decides_and_that_of_a_node_does_not():
    module = _module("RandomNormal", [], {"shape": _MANY, "seed": 5.0})
    torch.manual_seed(1)
    first, second = module()[0], module()[0]
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    assert torch.equal(module()[0], first)
