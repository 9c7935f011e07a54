"""Numbers as text: rounding is honest at both ends of the scale."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.report import figures


@given(st.floats(0, 1))
def test_percent_is_zero_or_all_only_when_it_is(value: float) -> None:
    assert (figures.percent(value) == "0.00 %") == (value == 0)
    assert (figures.percent(value) == "100.00 %") == (value == 1)


@given(st.floats(-1, 1))
def test_cosine_is_one_only_when_it_is(value: float) -> None:
    assert (figures.cosine(value) == "1.0000") == (value == 1)


@given(st.floats(1e-12, 1e15))
def test_three_significant_digits_are_within_half_of_the_last(value: float) -> None:
    text = figures.significant(value)
    if "×" not in text:
        assert math.isclose(float(text.replace(",", "")), value, rel_tol=0.00501)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_600, "1.00 MB"),
        (2_563_210, "2.56 MB"),
        (10**12, "1.00 TB"),
    ],
)
def test_sizes_are_decimal(value: int, text: str) -> None:
    assert figures.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "±0 %"), (-0.792, "−79.2 %"), (0.05, "+5.0 %"), (-1.0, "−100.0 %"), (-0.99999, "< −99.9 %")],
)
def test_changes_carry_their_sign(value: float, text: str) -> None:
    assert figures.signed_percent(value) == text


def test_small_and_large_numbers_are_powers_of_ten() -> None:
    assert figures.number(1.25e-7) == "1.250 × 10⁻⁷"
    assert figures.number(-3.5e12) == "−3.500 × 10¹²"
