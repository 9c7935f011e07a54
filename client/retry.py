"""When a request is sent again, and after how long."""

import random
from dataclasses import dataclass
from typing import final

from client.errors import ApiError, LookaheadError, UnreachableError

_PASSING_STATUSES = frozenset({408, 425, 429, 502, 503, 504})
_JITTER = 0.25


@final
@dataclass(frozen=True)
class RetryPolicy:
    """Retry what passes by itself: lost connections, 429, 502 to 504, anything that names `Retry-After`.

    Every POST carries an idempotency key, so sending one again is safe. Times are in seconds.
    """

    retries: int = 2
    first: float = 0.5
    most: float = 8.0
    most_retry_after: float = 60.0

    def delay(self, attempt: int, failure: LookaheadError) -> float | None:
        """How long to wait after failed attempt number `attempt` (from 0), or None to give up."""
        if attempt >= self.retries or not self.passing(failure):
            return None
        asked = failure.retry_after if isinstance(failure, ApiError) else None
        if asked is None:
            return self.backoff(attempt)
        return asked if asked <= self.most_retry_after else None

    def backoff(self, attempt: int) -> float:
        """`first` doubled per attempt up to `most`, less up to a quarter: clients must not march in step."""
        return min(self.most, self.first * 2.0**attempt) * (1 - _JITTER * random.random())  # noqa: S311

    def passing(self, failure: LookaheadError) -> bool:
        """Whether the same request may well succeed later."""
        if isinstance(failure, ApiError):
            return failure.status in _PASSING_STATUSES or failure.retry_after is not None
        return isinstance(failure, UnreachableError)
