"""Gates."""

from hypothesis import given
from hypothesis import strategies as st

from api_schemas.jobs import Summary
from api_schemas.report import AccuracyReport
from client.cli.gates import Gates, judge

SHARE = st.floats(0, 1)
LIMIT = st.none() | st.floats(0, 2)


@given(before=SHARE, after=SHARE, lowest=LIMIT, drop=LIMIT)
def test_accuracy_gates_hold_exactly_when_the_figures_do(
    before: float, after: float, lowest: float | None, drop: float | None
) -> None:
    verdicts = judge(Gates(lowest, drop), Summary(accuracy_before=before, accuracy_after=after), None)
    met = {verdict.gate: verdict.met for verdict in verdicts}
    expected = {}
    if lowest is not None:
        expected["min_accuracy"] = after >= lowest
    if drop is not None:
        expected["max_accuracy_drop"] = 100 * (before - after) <= drop
    assert met == expected


@given(before=st.integers(1, 10**9), after=st.integers(0, 10**9), limit=st.floats(0, 3))
def test_size_gates(before: int, after: int, limit: float) -> None:
    summary = Summary(size_bytes_before=before, size_bytes_after=after, compressed_bytes_before=before)
    size, packed = judge(Gates(max_size_ratio=limit, max_compressed_ratio=limit), summary, None)
    assert size.met == (after / before <= limit)
    assert (packed.met, packed.value) == (False, None)


def test_what_was_not_measured_meets_nothing() -> None:
    verdicts = judge(Gates(0.0, 100.0, 10.0, 10.0), Summary(), None)
    assert [verdict.met for verdict in verdicts] == [False] * 4
    assert all("not met" in str(verdict) for verdict in verdicts)


def test_a_figure_of_which_less_is_better_is_no_accuracy() -> None:
    error = AccuracyReport(metric="mse", output="y", rows=1, before=0.1, after=0.2, lower_is_better=True)
    (verdict,) = judge(Gates(min_accuracy=0.0), Summary(accuracy_before=0.1, accuracy_after=0.2), error)
    assert not verdict.met
    assert "mse" in str(verdict)


def test_no_gate_no_verdict() -> None:
    assert not Gates().any
    assert Gates(max_size_ratio=0.0).any
    assert judge(Gates(), Summary(), None) == []
