"""Looking for work without being called: all there is in embedded mode, the safety net beside Celery."""

import logging
from typing import Final

from store.errors import UnavailableError
from worker.logs import log
from worker.supervisor import Supervisor

_AWAY_SECONDS: Final = 2.0


def poll(supervisor: Supervisor, seconds: float, *, wait: bool = True) -> None:
    """Run whatever is queued, look again every `seconds`, until the supervisor is stopped.

    With `wait` false rounds are skipped while another thread runs jobs. Nothing a job or the store does
    ends the loop.
    """
    while not supervisor.stopping:
        supervisor.wait(seconds if _round(supervisor, wait=wait) else _AWAY_SECONDS)


def _round(supervisor: Supervisor, *, wait: bool) -> bool:
    try:
        supervisor.drain(wait=wait)
    except UnavailableError as error:
        log("store unreachable", level=logging.WARNING, reason=str(error))
        return False
    except BaseException as error:  # MemoryError too: a worker outlives what its jobs do
        log("polling failed", level=logging.ERROR, error=repr(error)[:500], exc_info=True)
        return False
    return True
