"""Flows: what the client does, written once as generators that do no I/O of their own.

A flow yields actions and is sent their results; `sync_driver` and `async_driver` perform them. So the
synchronous and the asynchronous client share every decision and differ only in how they wait. A driver
closes what was opened when the flow ends in any way; a flow must not yield while it is being closed.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar, final

from client.errors import ApiError, UnreachableError
from client.retry import RetryPolicy
from client.wire import Call, Reply

Result = TypeVar("Result")


@final
@dataclass(frozen=True)
class Send:
    """Send the call and read the whole answer. Result: `Reply`; thrown: `UnreachableError`."""

    call: Call


@final
@dataclass(frozen=True)
class Open:
    """Send the call and read the answer's head; on an error its body too. Result: `Reply`."""

    call: Call


@final
@dataclass(frozen=True)
class Read:
    """The next piece of the opened answer's body. Result: bytes, or None at its end."""


@final
@dataclass(frozen=True)
class Close:
    """Close the opened answer, if there is one."""


@final
@dataclass(frozen=True)
class Sleep:
    """Wait."""

    seconds: float


@final
@dataclass(frozen=True)
class Do:
    """Call a function that may block on this machine's files. Result: what it returns."""

    function: Callable[[], Any]


@final
@dataclass(frozen=True)
class Emit:
    """Hand a value to whoever listens to this flow."""

    value: Any


Action = Send | Open | Read | Close | Sleep | Do | Emit
Flow = Generator[Action, Any, Result]


def do(function: Callable[[], Result]) -> Flow[Result]:
    """Run blocking file work where it does not hold up anybody."""
    result: Result = yield Do(function)
    return result


def send(call: Call) -> Flow[Reply]:
    """One attempt. Raises `ApiError`, `ProtocolError`, `UnreachableError`."""
    reply: Reply = yield Send(call)
    reply.check()
    return reply


def exchange(call: Call, policy: RetryPolicy) -> Flow[Reply]:
    """The reply to a call, sent again as the policy says. Raises what the last attempt raised."""
    for attempt in count():
        try:
            return (yield from send(call))
        except (ApiError, UnreachableError) as error:
            delay = policy.delay(attempt, error)
            if delay is None:
                raise
        yield Sleep(delay)
    raise AssertionError("count() does not end")
