"""Both transports sum in the same processes, and the table has a row per size."""

from benchmarks import all_reduce
from benchmarks.all_reduce import Sum


def test_both_transports_are_measured_for_every_size() -> None:
    found = all_reduce.measured(2, 4096, sizes=(4_000, 40_000))
    assert [(one.transport, one.size) for one in found] == [
        ("shared memory", 4_000),
        ("gloo", 4_000),
        ("shared memory", 40_000),
        ("gloo", 40_000),
    ]
    assert all(one.seconds > 0 for one in found)


def test_a_row_has_both_speeds_and_both_times() -> None:
    sums = [Sum("shared memory", 2_000_000, 0.001), Sum("gloo", 2_000_000, 0.004)]
    assert all_reduce._rows(sums) == [["2,000,000", "2,000", "500", "1.00", "4.00"]]
