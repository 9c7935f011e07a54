"""Which rows are learnt from and judged: mixtures where there are no labels and the upload answers them."""

from typing import Any

import pytest
import torch

from tests.engine.learning.digits import perceptron
from tests.engine.recovery.case import Case
from worker.engine.graph.layer import Layer
from worker.engine.learning.batching import Batcher
from worker.engine.recovery.classroom import Classroom, enter
from worker.engine.recovery.training import steps_for, steps_within


class Picky(torch.nn.Module):
    """Answers rows of the digits, which are whole sixteenths, and no others."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        known = (images * 16).frac().flatten(1).abs().amax(1) == 0
        return (torch.where(known[:, None], 1.0, torch.inf).expand(-1, 10),)


def room(case: Case, *, mixing: bool, teacher: torch.nn.Module | None = None) -> Classroom:
    pruned = case.pruned()
    student, original = pruned.network.trainable(), pruned.original.trainable()
    if teacher is not None:
        original.module = teacher
    return enter(pruned, student, original, 32, case.context(), mixing=mixing)


def mixes(batcher: Batcher) -> bool:
    return batcher.mixing is not None


@pytest.mark.parametrize("mixing", [True, False])
@pytest.mark.parametrize("labels", [True, False])
def test_mixtures_are_learnt_where_asked_for_and_judged_where_no_label_is(
    tmp_path: Any, labels: bool, mixing: bool
) -> None:
    found = room(Case.of(tmp_path, perceptron, labels=labels, rows=100), mixing=mixing)
    assert (mixes(found.batches), mixes(found.held_out)) == (mixing, not labels)


def test_an_upload_that_has_no_answer_between_rows_is_asked_about_rows_alone(tmp_path: Any) -> None:
    found = room(Case.of(tmp_path, perceptron, labels=False, rows=100), mixing=True, teacher=Picky())
    assert not mixes(found.batches)
    assert not mixes(found.held_out)


def test_few_rows_are_learnt_in_more_steps_when_mixed(tmp_path: Any) -> None:
    case = Case.of(tmp_path, perceptron, labels=False, rows=100)
    assert steps_for(room(case, mixing=False).batches, 64) == 500
    assert steps_for(room(case, mixing=True).batches, 64) == 1500


def test_a_network_of_more_products_makes_fewer_steps(tmp_path: Any) -> None:
    layers = Case.of(tmp_path, perceptron).pruned().graph.layers
    products = sum(layer.size for layer in layers)  # linear layers: each weight once a row
    assert steps_within(layers, 64, on_gpu=False) == 2 * 10**13 // (4 * 64 * products)
    twice = steps_within([*layers, *layers], 64, on_gpu=False)
    assert twice == pytest.approx(steps_within(layers, 64, on_gpu=False) / 2, rel=1e-3)
    assert steps_within(layers, 64, on_gpu=True) == pytest.approx(200 * twice, rel=1e-3)
    many: list[Layer] = list(layers) * 10**5
    assert steps_within(many, 65_536, on_gpu=False) == 20
