"""Agreement figures against formulas written another way, over all rows at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from api_schemas.report import DataSource, OutputAgreement
from worker.engine.verify.agreement import AgreementTally

finite = st.floats(-100, 100, width=32)


def tally(before: np.ndarray, after: np.ndarray, size: int = 3) -> AgreementTally:
    """Both arrays taken in, batch by batch."""
    found = AgreementTally(("y",))
    for start in range(0, len(before), size):
        rows = slice(start, start + size)
        found.add([before[rows]], [after[rows]], len(before[rows]))
    return found


def figures(before: np.ndarray, after: np.ndarray, size: int = 3) -> OutputAgreement:
    """The figures of a single output."""
    return tally(before, after, size).report(DataSource.DATASET).outputs[0]


@settings(deadline=None)
@given(st.data(), st.tuples(st.integers(1, 9), st.integers(2, 5)), st.integers(1, 10))
def test_figures_equal_those_over_all_rows_at_once(
    data: st.DataObject, shape: tuple[int, int], size: int
) -> None:
    before, after = (data.draw(hnp.arrays(np.float32, shape, elements=finite)) for _ in range(2))
    found = figures(before, after, size)
    flat = [side.reshape(1, -1).astype(np.float64) for side in (before, after)]
    assert found.max_abs_difference == pytest.approx(np.max(np.abs(flat[0] - flat[1])))
    if np.any(before) and np.any(after) and not np.array_equal(before, after):
        apart = flat[0] / np.linalg.norm(flat[0]) - flat[1] / np.linalg.norm(flat[1])
        assert found.cosine == pytest.approx(1 - float(np.sum(apart**2)) / 2, abs=1e-6)
    same = sum(
        row.index(max(row)) == other.index(max(other))
        for row, other in zip(before.tolist(), after.tolist(), strict=True)
    )
    assert found.top1_agreement == same / len(before)


def test_identical_outputs_agree_wholly() -> None:
    values = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    found = tally(values, values.copy()).report(DataSource.RANDOM, seed=5)
    assert found.outputs[0] == OutputAgreement(
        name="y", cosine=1.0, max_abs_difference=0.0, top1_agreement=1.0
    )
    assert (found.source, found.rows, found.seed) == (DataSource.RANDOM, 7, 5)
    assert found.remark == "Every output is bit-identical."


def test_scaled_outputs_have_cosine_one_and_opposite_ones_minus_one() -> None:
    values = np.random.default_rng(0).normal(size=(7, 4))
    assert figures(values, 3 * values).cosine == pytest.approx(1)
    assert figures(values, -values).cosine == pytest.approx(-1)


def test_outputs_gone_to_zero_have_cosine_zero() -> None:
    assert figures(np.ones((3, 2)), np.zeros((3, 2))).cosine == 0.0


def test_places_that_are_not_finite_in_one_file_are_left_out_and_counted() -> None:
    before = np.array([[1.0, 2.0], [3.0, np.nan], [np.inf, 1.0]])
    after = np.array([[1.0, np.nan], [3.5, np.nan], [np.inf, 1.0]])
    found = tally(before, after).report(DataSource.DATASET)
    assert found.outputs[0].max_abs_difference == 0.5
    assert "1 values are NaN or infinite in one file only" in found.remark
    assert found.outputs[0].top1_agreement == pytest.approx(1 / 3)


def test_nothing_finite_gives_null_and_no_number() -> None:
    nothing = np.full((2, 2), np.nan)
    found = figures(nothing, np.zeros((2, 2)))
    assert found.cosine is None
    assert found.max_abs_difference is None


def test_labels_have_no_cosine() -> None:
    found = figures(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))
    assert found.cosine is None
    assert found.top1_agreement == 0.75
    assert found.max_abs_difference == 1


def test_outputs_of_another_shape_or_of_text_are_named_not_compared() -> None:
    found = AgreementTally(("boxes", "text", "good"))
    good = np.ones((2, 3))
    found.add([np.ones((2, 4)), np.array(["a"]), good], [np.ones((1, 4)), np.array(["a"]), good], 2)
    report = found.report(DataSource.DATASET)
    assert report.outputs[0] == OutputAgreement(name="boxes")
    assert report.outputs[2].cosine == 1.0
    assert "Not compared" in report.remark
    assert "boxes, text" in report.remark


def test_heads_that_end_in_single_pixels_have_classes() -> None:
    before = np.zeros((4, 3, 1, 1), np.float32)
    before[:, 1] = 1
    after = before.copy()
    after[0, 2] = 5
    assert figures(before, after).top1_agreement == 0.75


def test_images_have_no_top_class() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3, 5, 5))
    assert figures(values, values + 1).top1_agreement is None


def test_half_precision_is_summed_in_full() -> None:
    values = np.full((2000, 50), 60, np.float16)
    found = figures(values, values * np.float16(0.5), 500)
    assert found.cosine == pytest.approx(1)
    assert found.max_abs_difference == 30


def test_huge_numbers_give_null_not_an_error() -> None:
    values = np.full((2, 2), 1e200)
    assert figures(values, 2 * values).cosine is None


def test_an_output_that_the_pruned_file_lacks_is_not_compared() -> None:
    found = AgreementTally(("a", "b"))
    found.add([np.ones((2, 2)), np.ones((2, 2))], [np.ones((2, 2))], 2)
    assert found.report(DataSource.DATASET).outputs[1] == OutputAgreement(name="b")


def test_outputs_beyond_the_names_are_numbered() -> None:
    found = AgreementTally(("a",))
    found.add([np.ones(2)] * 2, [np.ones(2)] * 2, 2)
    assert [output.name for output in found.report(DataSource.DATASET).outputs] == ["a", "output 2"]
