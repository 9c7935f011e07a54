"""The drawings, measured back from their coordinates."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.report import Histogram
from tests.engine.report.samples import histograms
from worker.engine.report import svg

shares = st.floats(0, 1)


def rectangles(drawing: str, css: str) -> list[dict[str, float]]:
    """Numbers of every rectangle of one class."""
    found = [item.attrib for item in ET.fromstring(drawing).iter("rect") if item.get("class") == css]
    return [{key: float(item[key]) for key in ("x", "y", "width", "height")} for item in found]


@given(before=shares, after=shares)
def test_bar_lengths_are_the_shares(before: float, after: float) -> None:
    drawing = svg.sparsity_bar(before, after, None)
    (track,) = rectangles(drawing, "track")
    (bar,) = rectangles(drawing, "after")
    assert bar["width"] / track["width"] == pytest.approx(after, abs=1e-4)
    assert [item["width"] / track["width"] for item in rectangles(drawing, "before")] == pytest.approx(
        [before] if before else [], abs=1e-4
    )


@given(st.lists(shares, min_size=1, max_size=400))
def test_columns_stand_on_one_floor_and_are_as_high_as_their_share(values: list[float]) -> None:
    drawing = svg.sparsity_chart([svg.Column("layer", 0.0, value, None) for value in values])
    columns = rectangles(drawing, "after")
    floors = {round(item["y"] + item["height"], 1) for item in columns}
    assert len(columns) == len(values)
    assert len(floors) == 1
    heights = [item["height"] for item in columns]
    assert heights == pytest.approx([value * 186 for value in values], abs=0.02)
    lefts = [item["x"] for item in columns]
    assert lefts == sorted(lefts)


def areas(path: str) -> list[tuple[float, float, float]]:
    """(left, right, height above the floor) of every bar of a path."""
    bars = re.findall(r"M([\d.]+) 78V([\d.]+)H([\d.]+)V78Z", path)
    return [(float(left), float(right), 78 - float(top)) for left, top, right in bars]


def test_weights_bars_are_the_counts() -> None:
    before = Histogram(edges=[-1, 0, 1, 3], counts=[4, 8, 2])
    drawing = svg.weight_histogram(before, None)
    assert drawing is not None
    (path,) = (item.get("d", "") for item in ET.fromstring(drawing.svg).iter("path"))
    assert [(left, right) for left, right, _ in areas(path)] == [(0, 57.5), (57.5, 115), (115, 230)]
    heights = [height / 72 for _, _, height in areas(path)]
    assert [height**2 for height in heights] == pytest.approx([4 / 8, 8 / 8, 2 / 8], abs=1e-3)
    assert not drawing.clipped


def test_a_bar_taller_than_the_picture_is_said_to_be() -> None:
    before = Histogram(edges=[0, 1, 2], counts=[3, 3])
    drawing = svg.weight_histogram(before, Histogram(edges=[0, 1, 2], counts=[6, 0]))
    assert drawing is not None
    assert drawing.clipped


@pytest.mark.parametrize("log10", [False, True])
def test_the_threshold_stands_where_the_scores_are_cut(log10: bool) -> None:
    edges = [-4.0, -2.0, 0.0]
    scores = Histogram(edges=edges, counts=[5, 5], log10=log10)
    drawing = svg.score_histogram(scores, 1e-3 if log10 else -3.0)
    assert drawing is not None
    root = ET.fromstring(drawing)
    (line,) = (item for item in root.iter("line") if item.get("class") == "threshold")
    assert float(line.get("x1", "")) == pytest.approx(230 / 4)
    gone, kept = (
        next(item.get("d", "") for item in root.iter("path") if item.get("class") == css)
        for css in ("before", "after")
    )
    assert areas(gone) == [(0, 57.5, 72)]
    assert areas(kept) == [(57.5, 115, 72), (115, 230, 72)]


@given(histograms(), st.none() | st.floats(allow_nan=True))
def test_any_histogram_is_drawn_well_or_not_at_all(histogram: Histogram, threshold: float | None) -> None:
    for drawing in (svg.score_histogram(histogram, threshold), svg.weight_histogram(histogram, histogram)):
        assert (drawing is None) == (not svg.drawable(histogram))
        if drawing is not None:
            text = drawing if isinstance(drawing, str) else drawing.svg
            ET.fromstring(text)
            assert not re.search(r"nan|inf", text)


def test_broken_histograms_are_not_drawn() -> None:
    assert not svg.drawable(Histogram(edges=[0, 1], counts=[1, 2]))
    assert not svg.drawable(Histogram(edges=[0, 0], counts=[1]))
    assert not svg.drawable(Histogram(edges=[0, np.inf], counts=[1]))
    assert not svg.drawable(Histogram(edges=[0, 1], counts=[0]))
    assert svg.drawable(Histogram(edges=[0, 1], counts=[1]))
