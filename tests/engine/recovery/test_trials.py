"""How the rate of a long run follows from that of a short one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.recovery.trials import calmed


@pytest.mark.parametrize(("steps", "share"), [(1, 1.0), (250, 1.0), (500, 0.5), (750, 1 / 3), (10**7, 1 / 3)])
def test_a_long_run_is_made_at_a_lower_rate_than_the_trials(steps: int, share: float) -> None:
    assert calmed(steps) == pytest.approx(share)


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_more_steps_never_mean_a_higher_rate_nor_a_shorter_way(few: int, many: int) -> None:
    few, many = sorted((few, many))
    assert calmed(many) <= calmed(few)
    assert many * calmed(many) >= few * calmed(few) * (1 - 1e-12)
