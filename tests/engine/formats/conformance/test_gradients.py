"""Gradients against finite differences in float64, for every operator that is covered."""

import pytest
import torch

from tests.engine.formats.conformance.gradients import CONSTANT, FIXED, SAME_AS, checked, keys, samples
from worker.engine.formats.operators.registry import covered, find

_IDS = [f"{domain or 'ai.onnx'}.{name}" for domain, name in keys()]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("key", keys(), ids=_IDS)
def test_gradients_agree_with_finite_differences(key):
    differentiable = [checked(sample) for sample in samples().get(key, [])]
    assert any(differentiable) != (key in CONSTANT)


@pytest.mark.parametrize(("key", "other"), SAME_AS.items())
def test_other_names_are_computed_by_the_same_function(key, other):
    assert find(*key, 1).function is find(*other, 1).function


def test_tables_name_only_what_is_covered():
    assert set(CONSTANT) | set(FIXED) | set(SAME_AS) <= set(covered())
