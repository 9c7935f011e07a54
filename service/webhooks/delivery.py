"""Delivery of the outbox: at least once, the same id on every try, spaced out over days."""

import json
import logging
import random
from typing import final

import anyio
import httpx2
from anyio.to_thread import run_sync

from service.context import Context
from service.webhooks.addresses import RefusedAddressError, Target, resolve
from store.records import WebhookDelivery

_log = logging.getLogger("lookahead.webhooks")
_BATCH = 20
_GONE = 410
#: Seconds before the next try, after the first, second, … failure (Standard Webhooks' schedule).
SCHEDULE = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)


@final
class Deliverer:
    """Posts what is due in the outbox."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.settings
        self._jobs = context.store.jobs

    async def deliver_due(self) -> int:
        """Try everything that is due, side by side; how many there were."""
        due = await run_sync(self._jobs.due_webhooks, _BATCH)
        if not due:
            return 0
        # No environment: a proxy variable would take the connection away from the checked address.
        async with (
            httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=None) as client,
            anyio.create_task_group() as group,
        ):
            for delivery in due:
                group.start_soon(self._deliver, client, delivery)
        return len(due)

    async def _deliver(self, client: httpx2.AsyncClient, delivery: WebhookDelivery) -> None:
        outcome = await self._try(client, delivery)
        if outcome == "failed" and delivery.attempts > len(SCHEDULE):
            outcome = "abandoned"
        self._context.metrics.webhooks.labels(outcome).inc()
        if outcome == "failed":
            pause = SCHEDULE[delivery.attempts - 1] * random.uniform(1, 1.2)  # noqa: S311 (spread, no secret)
            await run_sync(self._jobs.webhook_failed, delivery.id, pause)
        else:
            await run_sync(self._jobs.webhook_done, delivery.id)

    async def _try(self, client: httpx2.AsyncClient, delivery: WebhookDelivery) -> str:
        """`delivered`, `failed`, or `abandoned` where trying again cannot help."""
        try:
            with anyio.fail_after(self._settings.webhook_seconds):
                allowed = self._settings.webhook_allow_private
                target = await resolve(delivery.url, allow_private=allowed)
                status = await self._post(client, target, delivery)
        except RefusedAddressError as error:
            _log.warning("webhook of %s refused: %s", delivery.job_id, error)
            return "abandoned"
        except (TimeoutError, OSError, httpx2.HTTPError) as error:
            _log.info("webhook of %s failed: %s", delivery.job_id, type(error).__name__)
            return "failed"
        if status == _GONE:
            return "abandoned"
        return "delivered" if 200 <= status < 300 else "failed"

    async def _post(self, client: httpx2.AsyncClient, target: Target, delivery: WebhookDelivery) -> int:
        body = json.dumps(delivery.payload, ensure_ascii=False, separators=(",", ":"))
        headers = self._context.signer.headers(delivery.id, body) | {"host": target.host_header}
        request = client.build_request(
            "POST", target.url, content=body, headers=headers, extensions={"sni_hostname": target.host}
        )
        # Streamed and closed: the status is all we want, whatever the receiver sends after it.
        response = await client.send(request, stream=True)
        await response.aclose()
        return response.status_code
