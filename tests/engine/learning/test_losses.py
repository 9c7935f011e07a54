"""Losses against scikit-learn's and the formulas; what is chosen follows the targets and the scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss
from torch import Tensor

from worker.engine.errors import InvalidRecipeError, LabelsOutOfRangeError, NeedsLabelsError
from worker.engine.learning.losses import (
    Distance,
    LossName,
    SoftLabels,
    choose_imitation,
    choose_loss,
)

torch.manual_seed(0)


def value(outputs: list[Tensor], targets: Tensor, name: LossName = "auto", smoothing: float = 0.0) -> float:
    return float(choose_loss(outputs, targets, name, smoothing=smoothing)(outputs, targets))


ENDINGS = {
    "logits": lambda scores: scores,
    "softmax": lambda scores: scores.softmax(1),
    "log-softmax": lambda scores: scores.log_softmax(1),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("targets", ["labels", "column", "one-hot", "floats"])
def test_cross_entropy_is_the_same_wherever_the_model_ends(ending: str, targets: str) -> None:
    logits, labels = torch.randn(12, 4), torch.randint(0, 4, (12,))
    given = {
        "labels": labels,
        "column": labels[:, None],
        "one-hot": torch.nn.functional.one_hot(labels, 4),
        "floats": labels.float(),
    }[targets]
    expected = log_loss(labels, logits.double().softmax(1), labels=range(4))
    outputs = [ENDINGS[ending](logits)]
    assert choose_loss(outputs, given).name == "cross_entropy"
    assert value(outputs, given) == pytest.approx(expected, rel=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 5), st.sampled_from([255, -100]), st.booleans(), st.integers(0, 10**6))
def test_ignored_pixels_count_for_nothing(classes: int, ignored: int, last: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, 4, 5, generator=generator)
    labels = torch.randint(0, classes, (3, 4, 5), generator=generator)
    hidden = torch.rand(labels.shape, generator=generator) < 0.4
    hidden[0, 0, 0] = False
    flat = logits.movedim(1, -1)[~hidden]
    expected = log_loss(labels[~hidden], flat.double().softmax(1), labels=range(classes))
    outputs = [logits.movedim(1, -1) if last and classes not in (4, 5) else logits]
    assert value(outputs, labels.masked_fill(hidden, ignored)) == pytest.approx(expected, rel=1e-4)


def test_smoothing_is_that_of_mixed_targets() -> None:
    logits, labels = torch.randn(9, 5), torch.randint(0, 5, (9,))
    mixed = torch.nn.functional.one_hot(labels, 5) * 0.9 + 0.1 / 5
    expected = -(mixed * logits.log_softmax(1)).sum(1).mean()
    assert value([logits], labels, smoothing=0.1) == pytest.approx(float(expected), rel=1e-5)
    assert value([logits.softmax(1)], labels, smoothing=0.1) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 3)])
def test_one_score_per_label_is_binary(shape: tuple[int, ...], probabilities: bool) -> None:
    logits, labels = torch.randn(shape), torch.randint(0, 2, shape)
    labels.view(-1)[:3] = 1  # rows of (20, 3) that are not one-hot
    sure = logits.double().sigmoid().view(-1)
    outputs = [logits.sigmoid() if probabilities else logits]
    assert choose_loss(outputs, labels).name == "binary_cross_entropy"
    assert value(outputs, labels) == pytest.approx(log_loss(labels.view(-1), sure), rel=1e-4)


def test_one_score_per_pixel_leaves_out_what_is_ignored() -> None:
    logits, labels = torch.randn(4, 1, 3, 3), torch.randint(0, 2, (4, 1, 3, 3))
    labels[0] = 255
    expected = log_loss(labels[1:].reshape(-1), logits[1:].double().sigmoid().reshape(-1))
    assert value([logits], labels) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", lambda d: d.square().mean()),
        ("mse", lambda d: d.square().mean()),
        ("l1", lambda d: d.abs().mean()),
        ("smooth_l1", lambda d: torch.where(d.abs() < 1, d.square() / 2, d.abs() - 0.5).mean()),
    ],
)
def test_values_have_their_differences(name: LossName, expected: object) -> None:
    outputs, targets = torch.randn(6, 2) * 2, torch.randn(6, 2)
    assert callable(expected)
    assert value([outputs], targets, name) == pytest.approx(float(expected(outputs - targets)), rel=1e-5)


@pytest.mark.parametrize("ending", ENDINGS)
def test_gradients_push_towards_the_label(ending: str) -> None:
    logits = torch.zeros(4, 3, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0])
    outputs = [ENDINGS[ending](logits)]
    choose_loss(outputs, labels)(outputs, labels).backward()
    assert logits.grad is not None
    expected = (torch.full((4, 3), 1 / 3) - torch.nn.functional.one_hot(labels, 3)) / 4
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-6)


def test_half_precision_is_lifted() -> None:
    logits, labels = torch.randn(6, 3).bfloat16(), torch.randint(0, 3, (6,))
    loss = choose_loss([logits], labels)([logits], labels)
    assert loss.dtype == torch.float32


def test_a_probability_of_nothing_is_no_infinity() -> None:
    sure = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = choose_loss([sure], torch.tensor([1]))([sure], torch.tensor([1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert sure.grad is not None and bool(torch.isfinite(sure.grad).all())


def test_the_first_output_that_fits_is_the_one() -> None:
    features, logits, labels = torch.randn(5, 2, 8), torch.randn(5, 3), torch.randint(0, 3, (5,))
    assert value([features, logits], labels) == pytest.approx(value([logits], labels))


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, -1, 2]])
def test_labels_of_a_later_batch_out_of_range_are_an_error(labels: list[int]) -> None:
    logits = torch.randn(3, 3)
    loss = choose_loss([logits], torch.tensor([0, 1, 2]))
    with pytest.raises(LabelsOutOfRangeError, match="from 0 to 2"):
        loss([logits], torch.tensor(labels))


def test_targets_that_fit_nothing_are_refused() -> None:
    with pytest.raises(NeedsLabelsError, match="fits no output"):
        choose_loss([torch.randn(4, 3)], torch.zeros(4, 7, dtype=torch.long))


@pytest.mark.parametrize(
    ("outputs", "targets", "name"),
    [
        (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), "mse"),
        (torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), "binary_cross_entropy"),
        (torch.randn(4, 3), torch.randn(4, 3), "cross_entropy"),
        (torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), "auto"),
        (torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]), "mse"),
    ],
)
def test_a_loss_that_does_not_fit_is_refused(outputs: Tensor, targets: Tensor, name: LossName) -> None:
    with pytest.raises(InvalidRecipeError):
        choose_loss([outputs], targets, name)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("ending", ENDINGS)
def test_soft_labels_are_the_divergence(ending: str, temperature: float) -> None:
    student, teacher = torch.randn(7, 5), torch.randn(7, 5)
    own, wanted = (side.double().div(temperature).softmax(1) for side in (student, teacher))
    expected = temperature**2 * (wanted * (wanted / own).log()).sum(1).mean()
    follow = SoftLabels(0, temperature=temperature, probabilities=ending == "softmax")
    found = follow([ENDINGS[ending](student)], [ENDINGS[ending](teacher)])
    assert float(found) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", ["auto", "kl", "mse"])
def test_a_perfect_student_has_nothing_to_learn(ending: str, name: str) -> None:
    logits = torch.randn(7, 5, requires_grad=True)
    outputs = [ENDINGS[ending](logits)]
    loss = choose_imitation(outputs, name)(outputs, [item.detach() for item in outputs])  # type: ignore[arg-type]
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert logits.grad is not None and float(logits.grad.abs().max()) < 1e-6


def test_a_distance_is_relative_to_the_teacher_and_skips_whole_numbers() -> None:
    teacher = [torch.randn(4, 3), torch.randn(4, 2, 2) * 100, torch.arange(4)]
    student = [torch.zeros(4, 3), torch.zeros(4, 2, 2), torch.arange(4)]
    assert float(Distance()(student, teacher)) == pytest.approx(2.0)


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    choose_imitation([teacher])([student], [teacher]).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_what_all_classes_of_a_row_share_is_followed_too() -> None:
    teacher = torch.randn(4, 3)
    follow = choose_imitation([teacher])
    assert float(follow([teacher + 5], [teacher])) > 1


def test_classes_are_asked_for_where_there_are_none() -> None:
    with pytest.raises(InvalidRecipeError, match="mse"):
        choose_imitation([torch.randn(2, 3, 8, 8)], "kl")
    assert choose_imitation([torch.randn(2, 3, 8, 8)]).name == "mse"


def test_double_precision_is_kept() -> None:
    scores, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 1, 0])
    assert choose_loss([scores], labels)([scores], labels).dtype == torch.float64
