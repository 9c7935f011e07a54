"""The metric that the targets ask for, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, mean_squared_error

from api_schemas.report import AccuracyReport
from worker.engine.errors import LabelsOutOfRangeError, NeedsLabelsError
from worker.engine.verify.accuracy import AccuracyTally

rng = np.random.default_rng(0)


def report(
    before: np.ndarray, after: np.ndarray, targets: np.ndarray, size: int = 4
) -> AccuracyReport | None:
    """Accuracy of one output, batch by batch."""
    tally = AccuracyTally(("y",))
    for start in range(0, len(before), size):
        rows = slice(start, start + size)
        tally.add([before[rows]], [after[rows]], targets[rows])
    return tally.report()


def measured(before: np.ndarray, after: np.ndarray, targets: np.ndarray, size: int = 4) -> AccuracyReport:
    """The same, where there is one."""
    found = report(before, after, targets, size)
    assert found is not None
    return found


@settings(deadline=None)
@given(st.data(), st.integers(1, 20), st.integers(2, 6), st.integers(1, 25))
def test_labels_against_classes_are_top1(data: st.DataObject, rows: int, classes: int, size: int) -> None:
    scores = [
        data.draw(hnp.arrays(np.float32, (rows, classes), elements=st.floats(-9, 9, width=32))) for _ in "ab"
    ]
    labels = data.draw(hnp.arrays(np.int64, (rows,), elements=st.integers(0, classes - 1)))
    found = measured(*scores, labels, size)
    predicted = [[row.index(max(row)) for row in side.tolist()] for side in scores]
    assert (found.metric, found.rows, found.lower_is_better) == ("top-1 accuracy", rows, False)
    assert found.before == pytest.approx(accuracy_score(labels, predicted[0]))
    assert found.after == pytest.approx(accuracy_score(labels, predicted[1]))


@pytest.mark.parametrize("shape", [(12,), (12, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_labels_may_come_in_a_column_and_in_any_type(shape: tuple[int, ...], dtype: type) -> None:
    scores, labels = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    found = measured(scores, scores, labels.reshape(shape).astype(dtype))
    assert found.metric == "top-1 accuracy"
    assert found.before == pytest.approx(accuracy_score(labels, scores.argmax(1)))


def test_labels_against_single_pixel_heads_are_top1() -> None:
    scores, labels = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    found = measured(scores.reshape(12, 3, 1, 1), scores.reshape(12, 3, 1, 1), labels)
    assert (found.metric, found.before) == (
        "top-1 accuracy",
        pytest.approx(accuracy_score(labels, scores.argmax(1))),
    )


def test_a_label_per_pixel_is_counted_per_pixel() -> None:
    scores, labels = rng.normal(size=(6, 4, 5, 7)), rng.integers(0, 4, (6, 5, 7))
    found = measured(scores, scores, labels)
    assert found.metric == "pixel accuracy"
    assert found.before == pytest.approx(accuracy_score(labels.ravel(), scores.argmax(axis=1).ravel()))


@pytest.mark.parametrize("last", [False, True])
def test_a_label_per_position_is_counted_per_position(last: bool) -> None:
    scores, labels = rng.normal(size=(6, 4, 9)), rng.integers(0, 4, (6, 9))
    laid_out = scores.transpose(0, 2, 1) if last else scores
    found = measured(laid_out, laid_out, labels)
    assert found.metric == "token accuracy"
    assert found.before == pytest.approx(accuracy_score(labels.ravel(), scores.argmax(axis=1).ravel()))


def test_one_hot_rows_are_labels() -> None:
    scores, labels = rng.normal(size=(12, 3)), rng.integers(0, 3, 12)
    found = measured(scores, scores, np.eye(3, dtype=np.int64)[labels])
    assert (found.metric, found.before) == (
        "top-1 accuracy",
        pytest.approx(accuracy_score(labels, scores.argmax(1))),
    )


@pytest.mark.parametrize("shape", [(20,), (20, 1)])
@pytest.mark.parametrize("probabilities", [False, True])
def test_one_score_per_row_is_binary(shape: tuple[int, ...], probabilities: bool) -> None:
    logits, labels = rng.normal(size=20), rng.integers(0, 2, 20)
    scores = 1 / (1 + np.exp(-logits)) if probabilities else logits
    found = measured(scores.reshape(shape), scores.reshape(shape), labels)
    assert found.metric == "binary accuracy"
    assert found.before == pytest.approx(accuracy_score(labels, (logits > 0).astype(int)))


def test_the_pruned_file_is_cut_where_the_upload_is() -> None:
    labels = np.array([1, 0, 1, 0])
    logits = np.array([4.0, -4.0, 4.0, -4.0])
    squashed = np.array([0.4, 0.0, 0.3, 0.0])
    assert measured(logits, squashed, labels).after == 1.0


def test_a_label_per_score_is_multi_label() -> None:
    scores, labels = rng.normal(size=(10, 4)), rng.integers(0, 2, (10, 4))
    labels[0] = [1, 1, 0, 1]
    found = measured(scores, scores, labels)
    assert found.metric == "multi-label accuracy"
    assert found.before == pytest.approx(accuracy_score(labels.ravel(), (scores > 0).ravel().astype(int)))


def test_labels_given_out_are_compared_as_they_are() -> None:
    predicted, labels = rng.integers(0, 5, 30), rng.integers(0, 5, 30)
    found = measured(predicted, predicted, labels)
    assert (found.metric, found.before) == (
        "label accuracy",
        pytest.approx(accuracy_score(labels, predicted)),
    )


@settings(deadline=None)
@given(st.data(), hnp.array_shapes(min_dims=1, max_dims=3, max_side=6), st.integers(1, 7))
def test_values_are_squared_errors(data: st.DataObject, shape: tuple[int, ...], size: int) -> None:
    values = [
        data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-50, 50, width=32))) for _ in range(3)
    ]
    found = measured(*values, size)
    before, after, targets = (item.reshape(-1) for item in values)
    assert (found.metric, found.lower_is_better) == ("mean squared error", True)
    assert found.before == pytest.approx(mean_squared_error(targets, before), rel=1e-6, abs=1e-12)
    assert found.after == pytest.approx(mean_squared_error(targets, after), rel=1e-6, abs=1e-12)


def test_whole_numbers_beyond_a_label_are_values() -> None:
    scores, targets = rng.normal(size=(20, 1)), np.arange(20)
    assert measured(scores, scores, targets).metric == "mean squared error"


@pytest.mark.parametrize("labels", [[0, 1, 3, 2], [0, -1, 2, 1], [1, 2, 3, 3]])
def test_labels_out_of_range_are_an_error_not_wrong_answers(labels: list[int]) -> None:
    scores = rng.normal(size=(4, 3))
    with pytest.raises(LabelsOutOfRangeError, match="3 classes, so labels go from 0 to 2"):
        report(scores, scores, np.array(labels))


def test_labels_that_fit_nothing_list_the_shapes() -> None:
    scores = rng.normal(size=(4, 3))
    with pytest.raises(
        NeedsLabelsError, match=r"\[4, 7\] fits no output of the model; outputs of a batch: \[4, 3\]"
    ):
        report(scores, scores, np.zeros((4, 7), int))


def test_the_first_output_that_fits_is_taken_and_named() -> None:
    tally = AccuracyTally(("features", "logits"))
    features, scores, labels = rng.normal(size=(5, 2, 8)), rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    tally.add([features, scores], [features, scores], labels)
    found = tally.report()
    assert found is not None
    assert found.output == "logits"


def test_nan_among_the_scores_is_a_wrong_answer() -> None:
    scores = np.array([[0.1, 0.9], [0.1, 0.9]])
    broken = np.array([[0.1, 0.9], [0.1, np.nan]])
    found = measured(scores, broken, np.array([1, 1]))
    assert (found.before, found.after) == (1.0, 0.5)


def test_nan_among_the_values_gives_no_figure() -> None:
    values = np.ones((4, 2))
    assert report(values, np.full((4, 2), np.nan), values + 0.5) is None


def test_nothing_taken_in_gives_no_figure() -> None:
    assert AccuracyTally(("y",)).report() is None


def test_one_hot_must_stay_one_hot() -> None:
    scores, targets = rng.normal(size=(8, 3)), np.eye(3, dtype=np.int64)[rng.integers(0, 3, 8)]
    targets[7] = [1, 1, 0]
    with pytest.raises(NeedsLabelsError, match="one-hot"):
        report(scores, scores, targets)


@pytest.mark.parametrize("targets", [np.full((4,), 0.5), np.zeros((9,), int), np.array(1)])
def test_values_or_rows_that_fit_no_output_are_refused(targets: np.ndarray) -> None:
    tally = AccuracyTally(("y",))
    with pytest.raises(NeedsLabelsError, match="fits no output"):
        tally.add([rng.normal(size=(4, 3))], [rng.normal(size=(4, 3))], targets)
