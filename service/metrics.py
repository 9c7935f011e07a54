"""Prometheus metrics of the API process, and the middleware that counts requests. No label names a job."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_schemas.jobs import JobStatus

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

    def watch_queue(
        self, counts: Callable[[], Mapping[JobStatus, int]], oldest: Callable[[], float | None]
    ) -> None:
        """Read jobs by state and the age of the queue from the store at every scrape."""
        self.registry.register(_QueueCollector(counts, oldest))


@final
class _QueueCollector(Collector):
    def __init__(
        self, counts: Callable[[], Mapping[JobStatus, int]], oldest: Callable[[], float | None]
    ) -> None:
        self._counts = counts
        self._oldest = oldest

    def describe(self) -> Iterator[Metric]:
        """Names only: registration must not read the database."""
        yield GaugeMetricFamily("lookahead_jobs", "Jobs by state.", labels=["status"])
        yield GaugeMetricFamily("lookahead_queue_age_seconds", "Age of the oldest queued job, 0 without.")

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        counts = self._counts()
        jobs = GaugeMetricFamily("lookahead_jobs", "Jobs by state.", labels=["status"])
        for status in JobStatus:
            jobs.add_metric([status.value], counts.get(status, 0))
        yield jobs
        age = GaugeMetricFamily("lookahead_queue_age_seconds", "Age of the oldest queued job, 0 without.")
        age.add_metric([], self._oldest() or 0.0)
        yield age


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
