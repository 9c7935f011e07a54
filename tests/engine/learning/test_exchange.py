"""Tensors through shared memory: sums as torch makes them, the same bits everywhere, and peers that fail."""

import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from api_schemas.errors import ErrorCode
from tests.engine.learning.peers import places, together
from worker.engine.errors import OutOfStepError, PeerLostError

SIZES = st.integers(2, 4)
#: With slots of 4,096 bytes: nothing, less than one share each, some pieces, many.
COUNTS = st.sampled_from([0, 1, 3, 7, 1023, 1024, 1025, 5000])
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8])


def drawn(rank: int, count: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.randint(0, 50, (count,), generator=torch.Generator().manual_seed(rank)).to(dtype)


@settings(max_examples=30, deadline=None)
@given(SIZES, COUNTS, DTYPES)
def test_a_sum_is_the_sum_in_the_order_of_the_ranks(size: int, count: int, dtype: torch.dtype) -> None:
    def act(place):
        tensor = drawn(place.rank, count, dtype)
        place.reduce(tensor, torch.Tensor.add_, "sum")
        return tensor

    with places(size) as found:
        answers = together(found, act)
    expected = drawn(0, count, dtype)
    for rank in range(1, size):
        expected = expected + drawn(rank, count, dtype)
    assert all(torch.equal(answer, expected) for answer in answers)


@settings(max_examples=20, deadline=None)
@given(SIZES, COUNTS, DTYPES, st.data())
def test_what_the_root_has_all_have(size: int, count: int, dtype: torch.dtype, data: st.DataObject) -> None:
    root = data.draw(st.integers(0, size - 1))

    def act(place):
        tensor = drawn(place.rank, count, dtype)
        place.broadcast(tensor, root)
        return tensor

    with places(size) as found:
        answers = together(found, act)
    assert all(torch.equal(answer, drawn(root, count, dtype)) for answer in answers)


def test_all_kinds_after_each_other_keep_apart() -> None:
    """No process overwrites what another still reads, however far it is ahead."""

    def act(place):
        seen = []
        for turn in range(40):
            if place.rank == turn % 3:
                time.sleep(0.002)
            tensor = torch.full((1500,), float(place.rank + turn))
            place.broadcast(tensor, turn % 3)
            place.reduce(tensor, torch.Tensor.add_, "sum")
            gathered = [torch.zeros(4) for _ in range(3)]
            place.gather(torch.full((4,), float(place.rank)), gathered)
            seen.append((tensor.unique().tolist(), [one.unique().item() for one in gathered]))
        return seen

    with places(3) as found:
        answers = together(found, act)
    expected = [([3.0 * (turn % 3 + turn)], [0.0, 1.0, 2.0]) for turn in range(40)]
    assert answers == [expected] * 3


def test_a_tensor_that_does_not_lie_in_one_row() -> None:
    def act(place):
        whole = torch.zeros(6, 8)
        view = whole.t()[1:7:2]
        view += place.rank + 1.0
        place.reduce(view, torch.Tensor.add_, "sum")
        return whole

    with places(2) as found:
        one, other = together(found, act)
    assert torch.equal(one, other)
    assert one[:, 1:7:2].unique().tolist() == [3.0] and one[:, 0::2].unique().tolist() == [0.0]


def test_processes_that_do_not_do_the_same_find_out() -> None:
    def act(place):
        try:
            place.reduce(torch.zeros(4 + place.rank), torch.Tensor.add_, "sum")
        finally:
            place.close()

    with places(2) as found:
        first, second = together(found, act)
    assert isinstance(second, PeerLostError)
    assert isinstance(first, OutOfStepError) and first.code is ErrorCode.INTERNAL
    assert "float32 4" in str(first) and "float32 5" in str(first)


def test_a_peer_that_is_gone_is_noticed_at_once() -> None:
    """The first and the others, before the note and in the middle of a meeting."""
    for gone in (0, 1, 2):

        def act(place, gone=gone):
            if place.rank == gone:
                place.close()
                return
            try:
                place.meet("barrier")
            except PeerLostError as error:
                assert place.failed is error
                place.close()  # as the end of its process does
                raise
            return

        with places(3, seconds=1e6) as found:
            answers = together(found, act)
        left = [answer for rank, answer in enumerate(answers) if rank != gone]
        assert all(isinstance(answer, PeerLostError) for answer in left), answers
        assert left[0].code is ErrorCode.WORKER_LOST


def test_a_peer_that_does_not_come_is_waited_for_so_long() -> None:
    with places(2, seconds=0.2) as found, pytest.raises(PeerLostError, match=r"did not come within 0\.2 s"):
        found[0].meet("barrier")


def test_who_waits_long_is_still_met() -> None:
    with places(2) as found:
        late = threading.Timer(0.5, found[1].meet, ["barrier"])
        late.start()
        found[0].meet("barrier")
        late.join()
        assert found[0].failed is None
