"""The doorbell tells workers that a job waits. A hint: the store has the job, a lost ring costs a sweep.

Rings are published by a thread of their own after the commit, so a broker that hangs delays no request.
"""

import logging
import queue
import threading
from typing import Protocol, final

from celery import Celery

_log = logging.getLogger("lookahead.doorbell")
TASK = "lookahead.run"
QUEUE = "lookahead"
_SOCKET_SECONDS = 2.0
_MOST_WAITING = 10_000


class Doorbell(Protocol):
    """Rings for a job id; never blocks, never raises."""

    def ring(self, job_id: str) -> None:
        """Tell some worker that the job waits."""

    def trouble(self) -> str | None:
        """Why rings do not get through at present, or None."""

    def close(self) -> None:
        """Send what waits if the broker takes it at once, then stop."""


@final
class SilentDoorbell:
    """Embedded mode: workers poll, nobody rings. Keeps nothing."""

    def ring(self, job_id: str) -> None:
        """Do nothing."""

    def trouble(self) -> str | None:
        """Nothing can go wrong."""
        return None

    def close(self) -> None:
        """Nothing to stop."""


@final
class CeleryDoorbell:
    """Publishes `lookahead.run(job_id)` from a background thread."""

    def __init__(self, broker_url: str) -> None:
        self._app = _publisher(broker_url)
        self._waiting: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._publish_all, name="doorbell", daemon=True)
        self._thread.start()

    def ring(self, job_id: str) -> None:
        """Queue a ring; dropped when thousands wait, for the sweep rings again."""
        try:
            self._waiting.put_nowait(job_id)
        except queue.Full:
            _log.warning("doorbell backlog is full; the sweep will ring for the job")

    def trouble(self) -> str | None:
        """What goes wrong with a fresh connection to the broker; takes a few seconds at worst."""
        try:
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=_SOCKET_SECONDS)
        except Exception as error:
            return f"the broker does not answer ({type(error).__name__})"
        return None

    def close(self) -> None:
        """Give the thread a moment to send what waits."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout=_SOCKET_SECONDS)

    def _publish_all(self) -> None:
        while (job_id := self._waiting.get()) is not None:
            self._publish(job_id)

    def _publish(self, job_id: str) -> None:
        try:
            self._app.send_task(TASK, args=[job_id], queue=QUEUE, ignore_result=True, retry=False)
        except Exception as error:  # whatever the transport raises: the job is safe in the store
            _log.warning("ring lost: %s", type(error).__name__)


def _publisher(broker_url: str) -> Celery:
    """A Celery app that only publishes, with a time-out on every socket (reliability J9, J11)."""
    app = Celery("lookahead-api", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_default_queue=QUEUE,
        broker_connection_timeout=_SOCKET_SECONDS,
        broker_pool_acquire_timeout=_SOCKET_SECONDS,
        broker_connection_retry_on_startup=False,
        broker_transport_options={
            "socket_timeout": _SOCKET_SECONDS,
            "socket_connect_timeout": _SOCKET_SECONDS,
            "max_retries": 1,
        },
    )
    return app


def make_doorbell(broker_url: str | None) -> Doorbell:
    """The doorbell for a broker, or the silent one when there is none."""
    return CeleryDoorbell(broker_url) if broker_url else SilentDoorbell()
