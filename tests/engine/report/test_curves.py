"""Plots: round numbers on the axes, every mark in the picture, nothing drawn from too little."""

import math
import re

from hypothesis import given
from hypothesis import strategies as st

from worker.engine.report.curves import Mark, Scale, curve, round_values

FINITE = st.floats(-1e12, 1e12)
PLAIN = Scale("x", str)


@given(low=FINITE, span=st.floats(1e-6, 1e9))
def test_round_values_are_few_round_and_inside(low: float, span: float) -> None:
    high = low + max(span, abs(low) * 1e-6)
    found = round_values(low, high)
    assert 2 <= len(found) <= 6
    slack = (high - low) * 1e-6
    assert all(low - slack <= value <= high + slack for value in found)


@given(st.lists(st.tuples(FINITE, FINITE, st.booleans()), max_size=8))
def test_every_mark_lies_in_the_picture(places: list[tuple[float, float, bool]]) -> None:
    drawn = curve([Mark(x, y, "here", joined=joined) for x, y, joined in places], PLAIN, PLAIN)
    if len(places) < 2:
        assert drawn is None
        return
    assert drawn is not None and drawn.count("<circle") == len(places)
    for x, y in re.findall(r'cx="([^"]+)" cy="([^"]+)"', drawn):
        assert 0 <= float(x) <= 640 and 0 <= float(y) <= 260


def test_what_is_no_number_is_left_out() -> None:
    marks = [Mark(0, 1, "a"), Mark(1, math.nan, "b"), Mark(2, math.inf, "c"), Mark(3, 2, "d<script>")]
    drawn = curve(marks, PLAIN, PLAIN, goal=1.5)
    assert drawn is not None and drawn.count("<circle") == 2
    assert "<script>" not in drawn and 'class="threshold"' in drawn


def test_both_axes_are_named_in_the_picture() -> None:
    drawn = curve(
        [Mark(0, 1, "a"), Mark(1, 2, "b")], Scale("steps taken", str), Scale("loss (log scale)", str)
    )
    assert drawn is not None
    assert ">steps taken</text>" in drawn and ">loss (log scale)</text>" in drawn


def test_points_carry_their_names_without_a_pointer_resting_on_them() -> None:
    drawn = curve([Mark(0, 1, "a", note="macs 0.5"), Mark(1, 2, "b")], PLAIN, PLAIN)
    assert drawn is not None
    (place,) = re.findall(r'<text x="([^"]+)" y="([^"]+)" text-anchor="(\w+)">macs 0.5</text>', drawn)
    assert place[2] == "start" and 0 <= float(place[1]) <= 260


def test_a_name_at_the_right_edge_grows_inwards() -> None:
    drawn = curve([Mark(0, 1, "a"), Mark(1, 2, "b", note="size_bytes 0.25")], PLAIN, PLAIN)
    assert drawn is not None and 'text-anchor="end">size_bytes 0.25<' in drawn


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=8))
def test_names_stay_in_the_picture_and_off_the_axis(places: list[tuple[float, float]]) -> None:
    drawn = curve([Mark(x, y, "", note="accuracy_drop 0.5") for x, y in places], PLAIN, PLAIN)
    assert drawn is not None
    found = re.findall(r'<text x="([^"]+)" y="([^"]+)" text-anchor="(\w+)">accuracy_drop', drawn)
    assert len(found) == len(places)
    for x, y, anchor in found:
        start = float(x) if anchor == "start" else float(x) - 7 * 17
        assert start >= 0 and start + 7 * 17 <= 660 and 0 < float(y) <= 216
