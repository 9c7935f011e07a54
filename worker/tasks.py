"""The doorbell's task: a message names a job, the supervisor does the rest."""

import logging

from celery import Celery

from worker.logs import log
from worker.supervisor import Supervisor

TASK: str = "lookahead.run"
QUEUE: str = "lookahead"


def register(app: Celery, supervisor: Supervisor) -> None:
    """Give the app its one task, bound to this process's supervisor."""

    @app.task(name=TASK, shared=False, ignore_result=True, acks_late=False)  # type: ignore[untyped-decorator]
    def run(job_id: str) -> None:
        answer(supervisor, job_id)


def answer(supervisor: Supervisor, job_id: str) -> None:
    """Run the job, if it is still queued, then whatever else is."""
    try:
        supervisor.drain(str(job_id))
    except BaseException as error:  # a MemoryError that reached Celery would end the worker (celery#10462)
        log("task failed", level=logging.ERROR, job=str(job_id)[:64], error=repr(error)[:500], exc_info=True)
