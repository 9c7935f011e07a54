"""How often a long job speaks: twice a second at first, once a minute at last, some thousand times in all."""

import time
from collections.abc import Callable
from typing import Final, final

_FIRST_GAP_SECONDS: Final = 0.5
_LONGEST_GAP_SECONDS: Final = 60.0  # well within the longest silence that a supervisor bears
_EVENTS_PER_GAP: Final = 400
_MOST: Final = 4_000  # the supervisor keeps 5,000 events of a job, and warnings are among them


@final
class Pace:
    """Says which readings of a stream are worth an event.

    Readings of one name come at most once per gap. The gap doubles with every 400 events of the job, so a
    job of four hours writes fewer than 3,000 rows however many steps it takes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told = 0
        self._last: dict[str, float] = {}

    def due(self, name: str) -> bool:
        """True when the next reading of `name` should be told."""
        last = self._last.get(name)
        gap = min(_LONGEST_GAP_SECONDS, _FIRST_GAP_SECONDS * 2.0 ** (self._told // _EVENTS_PER_GAP))
        return self.open and (last is None or self._clock() - last >= gap)

    @property
    def open(self) -> bool:
        """False once the job has said all that is kept of it."""
        return self._told < _MOST

    def told(self, name: str) -> None:
        """A reading of `name` was told."""
        self._told += 1
        self._last[name] = self._clock()
