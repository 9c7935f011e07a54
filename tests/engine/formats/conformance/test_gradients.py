"""Gradients against finite differences in float64, for every operator that is covered."""

import pytest
import torch

from tests.engine.formats.conformance.gradients import CONSTANT, FIXED, SAME_AS, keys, outputs_of, samples
from worker.engine.formats.operators.registry import covered, find

_IDS = [f"{domain or 'ai.onnx'}.{name}" for domain, name in keys()]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _check(sample) -> bool:
    """False where the sample has nothing to differentiate."""
    run, variables = outputs_of(sample)
    found = run(*variables)
    if not variables or not any(one.requires_grad for one in found):
        return False
    total = sum(one.sum() for one in found if one.requires_grad)
    reached = torch.autograd.grad(total, variables, allow_unused=True)
    assert all(one is not None for one in reached), f"{sample.name}: a gradient is cut"
    assert torch.autograd.gradcheck(run, variables, eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=True), (
        sample.name
    )
    return True


@pytest.mark.parametrize("key", keys(), ids=_IDS)
def test_gradients_agree_with_finite_differences(key):
    checked = [_check(sample) for sample in samples().get(key, [])]
    assert any(checked) != (key in CONSTANT)


@pytest.mark.parametrize(("key", "other"), SAME_AS.items())
def test_other_names_are_computed_by_the_same_function(key, other):
    assert find(*key, 1).function is find(*other, 1).function


def test_tables_name_only_what_is_covered():
    assert set(CONSTANT) | set(FIXED) | set(SAME_AS) <= set(covered())
