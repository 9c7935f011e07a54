"""Prometheus metrics of the API process, and the middleware that counts requests. No label names a job."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_schemas.jobs import JobStatus
from store import Store
from store.errors import StoreError

#: A worker that has given no sign of life for so long is taken for gone.
ALIVE_SECONDS = 60.0
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


@final
class Metrics:
    """Counters of one API process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lookahead_http_requests",
            "Requests by route, method and status.",
            ("route", "method", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "lookahead_http_request_seconds",
            "Time until a response was sent in full.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.bytes_in = Counter("lookahead_upload_bytes", "Bytes of uploads read.", registry=self.registry)
        self.bytes_out = Counter("lookahead_response_bytes", "Bytes of bodies sent.", registry=self.registry)
        self.reclaims = Counter(
            "lookahead_jobs_reclaimed",
            "Jobs whose lease had run out, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self.webhooks = Counter(
            "lookahead_webhook_deliveries",
            "Attempts to deliver a webhook, by outcome.",
            ("outcome",),
            registry=self.registry,
        )
        self.sweep_failures = Counter(
            "lookahead_sweep_failures", "Sweeps that ended in an error.", registry=self.registry
        )

    def watch_store(self, store: Store) -> None:
        """Read jobs by state, the age of the queue, workers and free room from the store at every scrape."""
        self.registry.register(_StoreCollector(store))


@final
class _StoreCollector(Collector):
    """What the store knows. While the database is away that is said, and all other metrics come as ever."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        """Names only: registration must not read the database."""
        yield from _families().values()

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        families = _families()
        up = 1.0
        try:
            self._read(families)
        except StoreError:
            up, families = 0.0, {"up": families["up"]}
        families["up"].add_metric([], up)
        yield from families.values()

    def _read(self, families: Mapping[str, GaugeMetricFamily]) -> None:
        jobs = self._store.jobs
        counts = jobs.counts()
        for status in JobStatus:
            families["jobs"].add_metric([status.value], counts.get(status, 0))
        families["age"].add_metric([], jobs.oldest_queued_seconds() or 0.0)
        families["workers"].add_metric([], len(self._store.workers.alive(ALIVE_SECONDS)))
        free = shutil.disk_usage(self._store.blobs.staging_dir()).free
        families["free"].add_metric([], free)


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        "up": GaugeMetricFamily("lookahead_database_up", "1 where the database answers, else 0."),
        "jobs": GaugeMetricFamily("lookahead_jobs", "Jobs by state.", labels=["status"]),
        "age": GaugeMetricFamily("lookahead_queue_age_seconds", "Age of the oldest queued job, 0 without."),
        "workers": GaugeMetricFamily("lookahead_workers", "Workers seen within the last minute."),
        "free": GaugeMetricFamily("lookahead_staging_free_bytes", "Room where uploads are put down."),
    }


@final
class MetricsMiddleware:
    """Counts every response under its route's template, so that ids never become labels."""

    def __init__(self, app: ASGIApp, metrics: Metrics, label: Callable[[str], str]) -> None:
        self._app = app
        self._metrics = metrics
        self._label = label

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count what comes back."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.monotonic()

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                self._metrics.bytes_out.inc(len(message.get("body", b"")))
            await send(message)

        try:
            await self._app(scope, receive, counting)
        finally:
            route = self._label(scope["path"])
            self._metrics.requests.labels(route, scope["method"], str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.monotonic() - started)
