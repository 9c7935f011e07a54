"""Metrics beside the one that decides, against scikit-learn's or the formula."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import jaccard_score, top_k_accuracy_score

from api_schemas.report import AccuracyReport, MetricReport
from worker.engine.errors import LabelsOutOfRangeError
from worker.engine.verify.accuracy import AccuracyTally

rng = np.random.default_rng(0)


def report(before: np.ndarray, after: np.ndarray, targets: np.ndarray, size: int = 3) -> AccuracyReport:
    tally = AccuracyTally(("y",))
    for start in range(0, len(before), size):
        rows = slice(start, start + size)
        tally.add([before[rows]], [after[rows]], targets[rows])
    found = tally.report()
    assert found is not None
    return found


def further(found: AccuracyReport, name: str) -> MetricReport:
    (figure,) = [figure for figure in found.further if figure.metric == name]
    return figure


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(10, 14), st.integers(0, 10**6), st.booleans())
def test_top5_is_scikit_learns(rows: int, classes: int, seed: int, one_hot: bool) -> None:
    draw = np.random.default_rng(seed)
    scores = [draw.permuted(np.tile(np.arange(classes), (rows, 1)), axis=1).astype(float) for _ in "ab"]
    labels = draw.integers(0, classes, rows)
    targets = np.eye(classes, dtype=int)[labels] if one_hot else labels
    figure = further(report(*scores, targets), "top-5 accuracy")
    for value, side in zip((figure.before, figure.after), scores, strict=True):
        assert value == pytest.approx(top_k_accuracy_score(labels, side, k=5, labels=range(classes)))


def test_few_classes_have_no_top5() -> None:
    scores = rng.normal(size=(8, 9))
    assert report(scores, scores, rng.integers(0, 9, 8)).further == []


def test_nan_among_the_scores_is_not_among_the_five() -> None:
    scores = rng.normal(size=(2, 10))
    broken = scores.copy()
    broken[1, 3] = np.nan
    assert further(report(scores, broken, scores.argmax(1)), "top-5 accuracy").after == 0.5


@settings(deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6), st.sampled_from([None, 255, -100]))
def test_mean_iou_is_scikit_learns_over_the_places_that_count(
    classes: int, seed: int, ignored: int | None
) -> None:
    draw = np.random.default_rng(seed)
    scores = draw.normal(size=(5, classes, 4, 3))
    labels = draw.integers(0, classes, (5, 4, 3))
    if ignored is not None:
        labels[draw.random(labels.shape) < 0.3] = ignored
        labels[0, 0, 0] = 0
    found = report(scores, scores, labels)
    counts = labels != ignored if ignored is not None else np.ones(labels.shape, bool)
    predicted = scores.argmax(1)
    assert found.metric == "pixel accuracy"
    assert found.before == pytest.approx((predicted == labels)[counts].mean())
    assert further(found, "mean IoU").before == pytest.approx(
        jaccard_score(labels[counts], predicted[counts], average="macro")
    )


def test_mean_iou_of_labels_given_out() -> None:
    predicted, labels = rng.integers(0, 4, (6, 5, 5)), rng.integers(0, 4, (6, 5, 5))
    found = report(predicted, predicted, labels)
    assert (found.metric, found.before) == ("pixel accuracy", (predicted == labels).mean())
    expected = jaccard_score(labels.ravel(), predicted.ravel(), average="macro")
    assert further(found, "mean IoU").after == pytest.approx(expected)


@pytest.mark.parametrize("probabilities", [False, True])
def test_mean_iou_of_one_score_per_pixel(probabilities: bool) -> None:
    logits, labels = rng.normal(size=(6, 1, 5, 5)), rng.integers(0, 2, (6, 1, 5, 5))
    labels[0, 0, 0] = 255
    scores = 1 / (1 + np.exp(-logits)) if probabilities else logits
    counts = labels != 255
    figure = further(report(scores, scores, labels), "mean IoU")
    assert figure.before == pytest.approx(
        jaccard_score(labels[counts], (logits > 0)[counts].astype(int), average="macro")
    )


def test_a_class_beyond_those_of_the_output_is_out_of_range_among_pixels_too() -> None:
    scores, labels = rng.normal(size=(2, 3, 4, 4)), np.full((2, 4, 4), 3)
    with pytest.raises(LabelsOutOfRangeError, match="go from 0 to 2"):
        report(scores, scores, labels)


def test_255_is_a_label_where_there_are_as_many_classes() -> None:
    scores = rng.normal(size=(2, 300, 7))
    labels = np.full((2, 7), 255)
    scores[:, 255] = 9
    assert report(scores, scores, labels).before == 1.0


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, (4, 3, 5, 5), elements=st.floats(0, 1, width=32)), st.sampled_from([1.0, 255.0])
)
def test_psnr_is_the_formula(targets: np.ndarray, peak: float) -> None:
    targets[0, 0, 0, 0] = 1.0
    noisy = targets + np.float32(0.1)
    figure = further(report(noisy * peak, noisy * peak, targets * peak), "PSNR")
    error = np.mean(((noisy.astype(float) - targets.astype(float)) * peak) ** 2)
    expected = 10 * np.log10(peak**2 / error)
    assert figure.before == pytest.approx(expected, rel=1e-5)
    assert not figure.lower_is_better


def test_a_perfect_picture_has_no_finite_psnr() -> None:
    pictures = rng.random((2, 3, 4, 4)).astype(np.float32)
    assert report(pictures, pictures, pictures).further == []


def test_values_that_are_no_pictures_have_no_psnr() -> None:
    values = rng.random((6, 3))
    assert report(values, values, values + 1).further == []
