"""The Celery application: a doorbell and nothing more.

Messages are acknowledged before they are acted on and hold a job id only. What is lost, doubled or
reordered costs time, never a job, because the store owns the jobs.
"""

from collections.abc import Callable
from typing import Any, Final

from celery import Celery

from worker.tasks import QUEUE, TASK

#: Why each is set: reliability J9, J11, J13, J14.
CONFIGURATION: Final[dict[str, Any]] = {
    "task_default_queue": QUEUE,
    "task_acks_late": False,  # early ack: a killed worker's job comes back by its lease, not by the broker
    "task_ignore_result": True,
    "result_backend": None,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,  # a bell that one busy worker hoards does not wake an idle one
    "task_serializer": "json",
    "accept_content": ["json"],
    "worker_hijack_root_logger": False,
    "worker_enable_remote_control": False,
    "worker_send_task_events": False,
    "task_create_missing_queues": True,
    # publishing and connecting never hang on a broker that is half dead
    "broker_connection_timeout": 3,
    "broker_pool_acquire_timeout": 3,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_transport_options": {"socket_timeout": 5, "socket_connect_timeout": 3, "max_retries": 1},
    "task_publish_retry": False,
}


def create_app(broker_url: str) -> Celery:
    """A Celery application on that broker."""
    app = Celery("lookahead", broker=broker_url, set_as_current=False)
    app.conf.update(CONFIGURATION)
    return app


def bell(app: Celery) -> Callable[[str], None]:
    """A function that rings for a job id. A broker that is away is no error: workers look by themselves."""

    def ring(job_id: str) -> None:
        try:
            app.send_task(TASK, args=[job_id], queue=QUEUE, retry=False, ignore_result=True)
        except Exception:  # kombu and redis-py have no common error, and none of them matters here
            return

    return ring
