"""Mixtures of rows: what they are made of, that they repeat, and what cannot be mixed."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.learning.mixing import Mixing, mixing_for

FLOATS = torch.arange(12.0).reshape(4, 3)
NAMES = torch.arange(4)


def mixed(*calls: tuple[torch.Tensor, ...], fixed: tuple[bool, ...], seed: int = 3) -> tuple:
    mixing = mixing_for(calls, fixed)
    assert mixing is not None
    return mixing.of(calls, (seed,))


@given(rows=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_every_mixture_is_of_its_row_and_one_other_by_shares_that_make_one(rows, seed):
    ((shares,),) = mixed((torch.eye(rows),), fixed=(False,), seed=seed)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)
    assert (shares >= 0).all()
    assert ((shares > 0).sum(1) <= 2).all()


def test_shares_differ_from_row_to_row_and_seed_to_seed():
    ((one,),) = mixed((torch.eye(50),), fixed=(False,), seed=1)
    ((same,),) = mixed((torch.eye(50),), fixed=(False,), seed=1)
    ((other,),) = mixed((torch.eye(50),), fixed=(False,), seed=2)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert len(set(one.diagonal().tolist())) > 40


def test_rows_of_several_calls_are_mixed_as_those_of_one():
    ((together,),) = mixed((FLOATS,), fixed=(False,))
    apart = mixed(*((row,) for row in FLOATS.split(1)), fixed=(False,))
    assert torch.equal(torch.cat([call[0] for call in apart]), together)


def test_inputs_of_a_row_are_mixed_by_one_share_and_fixed_ones_stay():
    ((first, second, fixed),) = mixed((FLOATS, 2 * FLOATS[:, :1], NAMES), fixed=(False, False, True))
    assert torch.equal(fixed, NAMES)
    np.testing.assert_allclose(second, 2 * first[:, :1], rtol=1e-6)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_mixtures_have_the_type_of_their_rows(kind):
    largest = torch.full((8, 2), torch.finfo(kind).max, dtype=kind) * torch.tensor([1, -1], dtype=kind)
    ((found,),) = mixed((largest,), fixed=(False,))
    assert found.dtype == kind
    assert torch.isfinite(found).all()


@pytest.mark.parametrize(
    "call",
    [(FLOATS, NAMES), (NAMES,), (torch.tensor(1.0),), (FLOATS, FLOATS[:2])],
    ids=["names beside", "names", "no rows", "as many of one, fewer of the other"],
)
def test_what_has_nothing_between_its_rows_is_not_mixed(call):
    assert mixing_for([call], [False] * len(call)) is None


def test_without_an_input_that_differs_nothing_is_mixed():
    assert mixing_for([(FLOATS,)], [True]) is None


def test_a_mixing_is_told_which_inputs_have_rows():
    assert mixing_for([(NAMES, FLOATS)], [True, False]) == Mixing((False, True))
