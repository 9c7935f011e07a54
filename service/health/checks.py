"""What readiness looks at: database, storage, disk, broker, and what the workers say of their sandbox."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow

from api_schemas.health import Check, Health, Readiness
from service.context import Context
from service.metrics import ALIVE_SECONDS
from store.errors import StoreError

_SECONDS = 5.0
_NO_BLOB = "0" * 64


def readiness(context: Context) -> Readiness:
    """Every check, side by side; the worst of them is the status. Blocks for a few seconds at most."""
    checks = (_database, _storage, _disk, _broker, _workers)
    pool = ThreadPoolExecutor(len(checks), thread_name_prefix="readiness")
    try:
        pending = [(check, pool.submit(check, context)) for check in checks]
        results = [_result(check, future.result) for check, future in pending]
    finally:
        pool.shutdown(wait=False)
    order = [Health.OK, Health.DEGRADED, Health.DOWN]
    return Readiness(status=max((result.status for result in results), key=order.index), checks=results)


def _result(check: Callable[[Context], Check], wait: Callable[[float], Check]) -> Check:
    name = check.__name__.removeprefix("_")
    try:
        return wait(_SECONDS)
    except TooSlow:
        return Check(name=name, status=_worst(name), detail="no answer in time")
    except Exception as error:  # a check must never take readiness itself down
        return Check(name=name, status=_worst(name), detail=type(error).__name__)


def _worst(name: str) -> Health:
    """Without broker or workers we still take jobs, which then wait."""
    return Health.DEGRADED if name in ("broker", "workers") else Health.DOWN


def _database(context: Context) -> Check:
    try:
        context.store.ping()
    except StoreError:
        return Check(name="database", status=Health.DOWN, detail="the database does not answer")
    return Check(name="database", status=Health.OK)


def _storage(context: Context) -> Check:
    context.store.blobs.exists(_NO_BLOB)  # asking is the point: raises when the store is away
    return Check(name="storage", status=Health.OK)


def _disk(context: Context) -> Check:
    free = shutil.disk_usage(context.store.blobs.staging_dir()).free
    status = Health.OK if free > context.settings.reserve_bytes else Health.DOWN
    return Check(name="disk", status=status, detail=f"{free / 1e9:.1f} GB free for uploads")


def _broker(context: Context) -> Check:
    if context.settings.broker_url is None:
        return Check(name="broker", status=Health.OK, detail="embedded: workers poll the store")
    trouble = context.doorbell.trouble()
    if trouble is None:
        return Check(name="broker", status=Health.OK)
    detail = f"{trouble}; jobs are found by polling instead"
    return Check(name="broker", status=Health.DEGRADED, detail=detail)


def _workers(context: Context) -> Check:
    alive = context.store.workers.alive(ALIVE_SECONDS)
    if not alive:
        return Check(name="workers", status=Health.DEGRADED, detail="no worker has been seen for a minute")
    confined = all(worker.detail.get("holds") is True for worker in alive)
    detail = "; ".join(f"{worker.device}, sandbox {worker.sandbox}" for worker in alive[:10])
    status = Health.OK if confined else Health.DEGRADED
    return Check(name="workers", status=status, detail=f"{len(alive)} alive: {detail}")
