"""Both clients behind one blocking face, so that each test holds for the two of them."""

import gc
import inspect
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from client import AsyncLookahead, Lookahead, RetryPolicy

QUICK = RetryPolicy(first=0.01, most=0.02)
Call = Callable[..., Any]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """``call(url, method, *args, **kw)``: that method of a fresh client; iterators come back as lists."""
    return _sync if request.param == "sync" else _async


def _sync(url: str, method: str, *args: Any, policy: RetryPolicy = QUICK, **more: Any) -> Any:
    with Lookahead(url, "key", policy=policy) as client:
        found = getattr(client, method)(*args, **more)
        return list(found) if inspect.isgenerator(found) else found


def _async(url: str, method: str, *args: Any, policy: RetryPolicy = QUICK, **more: Any) -> Any:
    async def run() -> Any:
        async with AsyncLookahead(url, "key", policy=policy) as client:
            found = getattr(client, method)(*args, **more)
            if inspect.isasyncgen(found):
                return [item async for item in found]
            return await found

    return anyio.run(run)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOOKAHEAD_SERVER", "LOOKAHEAD_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="module")
def _leaks_show_here() -> Any:
    """A socket or file left open warns when it is collected, and warnings are errors."""
    yield
    gc.collect()
