"""The recovery that goes with the upload, sequences, and what is told and taken back."""

from collections.abc import Iterator
from typing import Any, ClassVar, final

import numpy as np
import pytest

from tests.engine.learning.digits import convolutional, perceptron
from tests.engine.recovery.case import Case, holds, weights
from tests.engine.recovery.test_training import part
from worker.engine import registry
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError
from worker.engine.recovery.base import Pruned, Recovery
from worker.engine.recovery.healing import heal_by


@pytest.fixture
def harmful() -> Iterator[type[Recovery]]:
    """A recovery that does nothing but harm."""

    @final
    class Harmful(Recovery):
        """Turns signs."""

        name: ClassVar[str] = "harmful"

        def heal(self, pruned: Pruned, context: Context) -> None:
            for layer in pruned.graph.layers:
                pruned.network.write(layer.view.value, -pruned.network.read(layer.view.value))

    yield Harmful
    del registry._PARTS["recovery", "harmful"]


def names(case: Case) -> list[str]:
    return [getattr(member, "part", member).name for member in part("auto").course(case.pruned().data)]


def test_what_was_uploaded_decides(tmp_path):
    assert part("auto").course(None) == ()
    assert names(Case.of(tmp_path, perceptron)) == ["reconstruction", "fine_tune"]
    assert names(Case.of(tmp_path, perceptron, labels=False)) == ["reconstruction", "distillation"]
    assert names(Case.of(tmp_path, perceptron, rows=20)) == ["reconstruction"]


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("make", [perceptron, convolutional])
def test_it_heals_and_says_what_each_step_gained(tmp_path, make, labels):
    case = Case.of(tmp_path, make, labels=labels)
    full, pruned, context = case.accuracy(case.pruned(0.0).network), case.pruned(), case.context()
    part("auto", steps=300).heal(pruned, context)
    assert case.accuracy(pruned.network) > full - 0.08
    assert holds(pruned)
    first, second = context.healed
    assert [first.recovery, second.recovery] == ["reconstruction", "fine_tune" if labels else "distillation"]
    assert first.chosen_because == f"there are 1400 {'' if labels else 'un'}labelled rows to learn from"
    start = first.after if first.kept else first.before
    assert second.before == pytest.approx(start, rel=1e-4)
    assert second.kept
    better = (second.after - first.before) * (1 if labels else -1)
    assert better > 0


def test_where_reconstruction_gives_little_back_training_begins_with_the_pruned_weights(tmp_path):
    case = Case.of(tmp_path, perceptron, labels=False, rows=512)
    pruned, context = case.pruned(0.97), case.context()
    part("auto", steps=300).heal(pruned, context)
    first, second = context.healed
    assert not first.kept
    assert second.before == pytest.approx(first.before, rel=1e-4)
    assert second.after < first.after
    assert second.uploaded == pytest.approx(0.0, abs=1e-9)
    assert holds(pruned)


def test_training_that_comes_to_less_than_reconstruction_is_put_back(tmp_path):
    case = Case.of(tmp_path, perceptron, labels=False, rows=512)
    pruned, context, expected = case.pruned(0.97), case.context(), case.pruned(0.97)
    part("auto", steps=1).heal(pruned, context)
    first, second = context.healed
    assert (first.kept, second.kept) == (True, False)
    part("reconstruction").heal(expected, case.context())
    for name, array in weights(expected.network).items():
        np.testing.assert_array_equal(array, weights(pruned.network)[name])


def test_a_sequence_heals_by_each_in_turn(tmp_path):
    case = Case.of(tmp_path, perceptron)
    pruned, context = case.pruned(), case.context()
    asked = part(
        "sequence",
        parts=[{"name": "reconstruction"}, {"name": "none"}, {"name": "fine_tune", "steps": 50}],
    )
    assert [member.name for member in asked.course(pruned.data)] == ["reconstruction", "fine_tune"]
    asked.heal(pruned, context)
    assert [told.recovery for told in context.healed] == ["reconstruction", "fine_tune"]
    assert all(told.chosen_because == "the recipe asks for it" for told in context.healed)


@pytest.mark.parametrize("parts", [[{"name": "nothing_of_the_kind"}], [{"name": "fine_tune", "steps": -1}]])
def test_a_sequence_of_what_is_not_there_is_refused(parts: Any):
    with pytest.raises(InvalidRecipeError):
        part("sequence", parts=parts)


def test_a_recovery_that_does_harm_is_taken_back(tmp_path, harmful):
    case = Case.of(tmp_path, convolutional)
    pruned, context = case.pruned(0.3), case.context()
    before = weights(pruned.network)
    heal_by(harmful(), pruned, context)
    for name, array in weights(pruned.network).items():
        np.testing.assert_array_equal(array, before[name])
    (told,) = context.healed
    assert not told.kept
    assert told.before == told.after
    assert any("taken back" in warning for warning in context.warnings)


def test_without_data_a_recovery_is_noted_without_figures(tmp_path, harmful):
    pruned, context = Case.of(tmp_path, perceptron).pruned(), Context(tmp_path)
    heal_by(harmful(), Pruned(pruned.network, pruned.graph, pruned.original), context)
    (told,) = context.healed
    assert (told.before, told.after, told.metric, told.kept) == (None, None, None, True)
