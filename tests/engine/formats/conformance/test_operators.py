"""The module against ONNX's operator test-suite: what it fails is written down, case by case."""

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from tests.engine.formats.conformance.judged import families, judged
from tests.engine.formats.conformance.own_samples import OWN, UNKNOWN_TO_ONNXRUNTIME
from tests.engine.formats.conformance.scope import (
    AS_ONNXRUNTIME,
    EITHER_WAY,
    EXCLUSIONS,
    FAILING,
    FAILING_BOTH,
    excluded,
)
from tests.engine.formats.conformance.suite import by_onnxruntime, by_torch, cases, outcome


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("family", families())
def test_what_fails_is_what_is_written_down(family):
    names = families()[family]
    outcomes = {name: judged(name) for name in names}
    failing = {name: one.torch for name, one in outcomes.items() if one.torch is not None}
    expected = {name for name in names if name in FAILING or name in FAILING_BOTH}
    assert set(failing) - set(EITHER_WAY) == expected, {
        name: why for name, why in failing.items() if name not in expected
    }


def test_the_tables_tell_apart_what_onnxruntime_passes():
    for name in FAILING:
        assert judged(name).onnxruntime is None, name
    for name in FAILING_BOTH:
        assert judged(name).onnxruntime is not None, name


@pytest.mark.parametrize("key", [key for key in OWN if key not in UNKNOWN_TO_ONNXRUNTIME], ids=":".join)
def test_own_samples_agree_with_onnxruntime(key):
    for text, inputs in OWN[key]:
        model = onnx.parser.parse_model(text)
        found, wanted = by_torch(model)(inputs), by_onnxruntime(model)(inputs)
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", AS_ONNXRUNTIME)
def test_where_the_suite_differs_from_onnxruntime_the_module_follows_it(name):
    case = cases()[name]
    for inputs, _ in case.data:
        found, wanted = by_torch(case.model)(inputs), by_onnxruntime(case.model)(inputs)
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EITHER_WAY)
def test_what_rounding_decides_is_no_more_than_rounding(name):
    case = replace(cases()[name], atol=1e-6)
    assert outcome(case, by_torch) is None


def test_nearly_all_that_onnxruntime_passes_is_passed():
    names = [name for family in families().values() for name in family]
    passed = [name for name in names if judged(name).onnxruntime is None]
    ours = [name for name in passed if judged(name).torch is None]
    assert len(passed) > 1400
    assert len(ours) >= 0.99 * len(passed)


def test_every_exclusion_is_needed_and_small():
    counts = Counter(excluded(case) for case in cases().values())
    assert set(counts) - {None} == set(EXCLUSIONS)
    assert counts[None] > 0.9 * counts.total()
