"""The warm child: waiting, used once, replaced; and nothing of it left behind."""

import gc
import os
import signal
from pathlib import Path

import pytest

from api_schemas.jobs import JobStatus
from tests.faults.worker_process import children_of, eventually
from tests.worker.workplace import open_workplace, scripted, supervising
from worker.errors import ChildStartError
from worker.nursery import Nursery


def test_a_spare_waits_and_is_used_once(tmp_path: Path) -> None:
    with open_workplace(tmp_path) as place:
        nursery = Nursery(scripted(place.settings))
        nursery.prepare()
        nursery.prepare()
        eventually(lambda: len(children_of(place)) == 1)
        child = nursery.take().leader
        nursery.prepare()
        other = nursery.take().leader
        assert child.pid != other.pid
        for taken in (child, other):
            taken.close()
        nursery.close()
        assert children_of(place) == [] and place.scratch_left() == []


def test_a_spare_that_died_is_replaced(tmp_path: Path) -> None:
    with open_workplace(tmp_path) as place:
        job = place.submit("ok")
        with supervising(place) as supervisor:
            supervisor.prepare()
            eventually(lambda: len(children_of(place)) == 1)
            os.kill(children_of(place)[0], signal.SIGKILL)
            eventually(lambda: children_of(place) == [])
            supervisor.drain()
        assert place.job(job).status is JobStatus.SUCCEEDED


def test_a_hushed_spare_goes_on_afterwards(tmp_path: Path) -> None:
    with open_workplace(tmp_path) as place:
        nursery = Nursery(scripted(place.settings))
        nursery.prepare()
        nursery.hush()
        nursery.resume()
        nursery.take().close()
        nursery.hush()
        nursery.resume()


def test_a_child_that_cannot_start_is_an_error_with_its_reason(tmp_path: Path) -> None:
    from dataclasses import replace

    with open_workplace(tmp_path) as place:
        nursery = Nursery(replace(scripted(place.settings), engine="no_such_module:run"))
        with pytest.raises(ChildStartError, match="no_such_module"):
            nursery.take()
        assert place.scratch_left() == []


def test_many_jobs_leave_no_descriptors(tmp_path: Path) -> None:
    with open_workplace(tmp_path) as place, supervising(place) as supervisor:
        for behaviour in ("ok", "segfault", "garbage"):
            place.submit(behaviour, max_attempts=1)
        supervisor.drain()
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for behaviour in ("ok", "segfault", "garbage", "refuse", "vanish", "ok"):
            place.submit(behaviour, max_attempts=1)
        supervisor.drain()
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before
