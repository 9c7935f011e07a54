"""How many requests a key, or an address without one, may make in a time; off unless the settings say so.

Counted in Redis where there is one, so that all API processes count together; otherwise in this process.
"""

import ipaddress
import logging
import math
import time
from dataclasses import dataclass
from typing import Any, Final, final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api_schemas.errors import ErrorCode
from service.auth import valid_key
from service.problems import problem
from service.settings import ServiceSettings

_log = logging.getLogger("lookahead.service")
#: What watches and draws must not be shut out by what it watches.
_FREE: Final = ("/livez", "/readyz", "/metrics", "/static/")
_REDIS: Final = ("redis://", "rediss://")
_SOCKET_SECONDS: Final = 0.5
#: How long a Redis that did not answer is left alone.
_AWAY_SECONDS: Final = 5.0
#: What one customer of an IPv6 network holds at the least.
_IPV6_PREFIX: Final = 64


def storage_url(settings: ServiceSettings) -> str | None:
    """The Redis that processes count in together, or None to count in the process."""
    if settings.rate_limit_url is not None:
        return settings.rate_limit_url
    broker = settings.broker_url
    return broker if broker is not None and broker.startswith(_REDIS) else None


def caller_of(scope: Scope, keys: tuple[str, ...]) -> str:
    """Whose requests are counted together: a valid key's, by its digest, or an address's."""
    key = valid_key(Headers(scope=scope).get("authorization", ""), keys)
    return f"key:{key}" if key is not None else f"address:{_address(scope)}"


def _address(scope: Scope) -> str:
    host = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host  # a Unix socket, or a name
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))


@final
@dataclass(frozen=True)
class Standing:
    """Where a caller stands: whether this request may pass, how many more may, seconds until the next may."""

    allowed: bool
    remaining: int
    seconds: int


@final
class RateLimiter:
    """Counts requests in a moving window; where Redis fails, in this process alone, and nobody waits."""

    def __init__(self, requests: int, seconds: int, url: str | None) -> None:
        self.policy = f'"default";q={requests};w={seconds}'
        self._item: RateLimitItem = RateLimitItemPerSecond(requests, seconds, "lookahead")
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._pool = None if url is None else _pool(url)
        self._shared = None if self._pool is None else MovingWindowRateLimiter(_storage(self._pool))
        self._away_until = 0.0

    async def hit(self, caller: str) -> Standing:
        """Count a request."""
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                return await self._hit(self._shared, caller)
            except Exception as error:  # whatever the client raises: a limit must not be an outage
                self._away_until = time.monotonic() + _AWAY_SECONDS
                _log.warning("requests are counted in this process alone: %s", type(error).__name__)
        return await self._hit(self._own, caller)

    async def close(self) -> None:
        """Let go of the connections."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _hit(self, limiter: MovingWindowRateLimiter, caller: str) -> Standing:
        allowed = await limiter.hit(self._item, caller)
        reset, remaining = await limiter.get_window_stats(self._item, caller)
        seconds = max(1, math.ceil(reset - time.time()))
        return Standing(allowed, max(0, remaining), min(seconds, self._item.get_expiry()))


def _pool(url: str) -> ConnectionPool:
    return ConnectionPool.from_url(
        url, socket_timeout=_SOCKET_SECONDS, socket_connect_timeout=_SOCKET_SECONDS
    )


def _storage(pool: ConnectionPool) -> RedisStorage:
    options: dict[str, Any] = {"connection_pool": pool}
    return RedisStorage("async+redis://", implementation="redispy", **options)


def make_limiter(settings: ServiceSettings) -> RateLimiter | None:
    """The limiter of the settings; None when there is no limit."""
    if settings.rate_limit_requests is None:
        return None
    return RateLimiter(settings.rate_limit_requests, settings.rate_limit_seconds, storage_url(settings))


@final
class RateLimitMiddleware:
    """Answers 429 to what is over the limit, and tells in the headers of every answer what is left.

    The fields `RateLimit` and `RateLimit-Policy` are those of draft-ietf-httpapi-ratelimit-headers.
    """

    def __init__(self, app: ASGIApp, limiter: RateLimiter, keys: tuple[str, ...]) -> None:
        self._app, self._limiter, self._keys = app, limiter, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before its body is read."""
        if scope["type"] != "http" or scope["path"].startswith(_FREE):
            await self._app(scope, receive, send)
            return
        standing = await self._limiter.hit(caller_of(scope, self._keys))
        told = {
            "RateLimit-Policy": self._limiter.policy,
            "RateLimit": f'"default";r={standing.remaining};t={standing.seconds}',
        }

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(told)
            await send(message)

        if standing.allowed:
            await self._app(scope, receive, telling)
            return
        await _refusal(scope, standing)(scope, receive, telling)


def _refusal(scope: Scope, standing: Standing) -> ASGIApp:
    detail = f"Too many requests; the next may come in {standing.seconds} s."
    headers = {"Retry-After": str(standing.seconds)}
    return problem(Request(scope), ErrorCode.RATE_LIMITED, detail, headers=headers)
