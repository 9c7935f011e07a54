"""What targets ask of a model follows from shapes and numbers alone, and labels are counted with care."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from worker.engine.data.tasks import Kind, Task, counted, task_of
from worker.engine.errors import LabelsOutOfRangeError, NeedsLabelsError

rng = np.random.default_rng(0)
FLOATS = rng.normal(size=(6, 4))


@pytest.mark.parametrize(
    ("output", "targets", "task"),
    [
        (FLOATS, np.arange(6) % 4, Task(0, Kind.CLASSES, "top-1 accuracy", 1)),
        (FLOATS, (np.arange(6) % 4)[:, None], Task(0, Kind.CLASSES, "top-1 accuracy", 1)),
        (FLOATS, np.eye(4, dtype=int)[[0, 1, 2, 3, 0, 1]], Task(0, Kind.ONE_HOT, "top-1 accuracy", 1)),
        (FLOATS, np.ones((6, 4), int), Task(0, Kind.SCORES, "multi-label accuracy")),
        (FLOATS[:, :1], np.ones(6, int), Task(0, Kind.SCORES, "binary accuracy")),
        (FLOATS, FLOATS + 1, Task(0, Kind.VALUES)),
        (FLOATS[:, 0], np.arange(6), Task(0, Kind.VALUES)),
        (np.arange(6), np.arange(6), Task(0, Kind.LABELS, "label accuracy")),
        (np.zeros((2, 5, 5), int), np.zeros((2, 5, 5), int), Task(0, Kind.LABELS, "pixel accuracy")),
        (np.zeros((2, 3, 5, 7)), np.zeros((2, 5, 7), int), Task(0, Kind.CLASSES, "pixel accuracy", 1)),
        (np.zeros((2, 5, 7, 3)), np.zeros((2, 5, 7), int), Task(0, Kind.CLASSES, "pixel accuracy", 3)),
        (np.zeros((2, 9, 50)), np.zeros((2, 9), int), Task(0, Kind.CLASSES, "token accuracy", 2)),
        (np.zeros((2, 1, 5, 5)), np.full((2, 5, 5), 255), Task(0, Kind.SCORES, "pixel accuracy")),
        (np.zeros((2, 3, 5, 5)), np.zeros((2, 3, 5, 5)), Task(0, Kind.VALUES)),
    ],
)
def test_targets_say_what_they_are(output: np.ndarray, targets: np.ndarray, task: Task) -> None:
    assert task_of([output], targets) == task
    assert task_of([np.zeros((99, 1)), output], targets).output == 1


def test_only_places_may_be_left_out() -> None:
    assert not Task(0, Kind.CLASSES, "top-1 accuracy", 1).many_places
    assert Task(0, Kind.CLASSES, "pixel accuracy", 1).many_places


@given(
    hnp.arrays(
        np.int64, hnp.array_shapes(max_dims=3, max_side=5), elements=st.sampled_from([0, 1, 2, 255, -100])
    ),
    st.sampled_from([3, 255, 256, 1000]),
)
def test_ignored_labels_count_for_nothing(labels: np.ndarray, classes: int) -> None:
    ignored = (labels == -100) | ((labels == 255) & (classes <= 255))
    np.testing.assert_array_equal(counted(labels, classes, many_places=True), ~ignored)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [255, 0], [-100, 0]])
def test_labels_of_rows_are_all_held_against_the_classes(labels: list[int]) -> None:
    with pytest.raises(LabelsOutOfRangeError, match="labels go from 0 to 2"):
        counted(np.array(labels), 3, many_places=False)


def test_text_and_complex_outputs_are_passed_over() -> None:
    with pytest.raises(NeedsLabelsError, match="fits no output"):
        task_of([np.zeros((6, 4), complex), np.array(["a"] * 6)], np.arange(6) % 4)
