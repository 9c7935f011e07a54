"""The children of one job: one leads it and speaks for it; others, if there are any, only train with it."""

import os
import signal
import time
from collections.abc import Sequence
from typing import Final, final

from api_schemas.errors import ErrorCode
from api_schemas.jobs import ChildResult
from worker.jobdir import JobDirectory
from worker.process import ChildProcess
from worker.protocol import ChildMessage, ChildStart

_CAUSE_SECONDS: Final = 5.0
_TICK_SECONDS: Final = 0.05


@final
class Crew:
    """Children that end together. Of the peers nothing is heard but how they end."""

    def __init__(self, leader: ChildProcess) -> None:
        self.leader = leader
        self._peers: list[ChildProcess] = []

    def enlist(self, peer: ChildProcess) -> None:
        """Have another child with it, of the next rank."""
        self._peers.append(peer)

    @property
    def members(self) -> Sequence[ChildProcess]:
        """All, by rank."""
        return (self.leader, *self._peers)

    @property
    def directory(self) -> JobDirectory:
        """The leader's, where the job's files come to lie and its results are found."""
        return self.leader.directory

    def send(self, start: ChildStart, seconds: float) -> None:
        """Hand the order to all, with the files that came with it; they wait so long for each other."""
        for rank, member in enumerate(self.members):
            if member is not self.leader:
                _lend(self.directory, member.directory)
            exchange = self.leader.exchange if self._peers else None
            world = None if exchange is None else exchange.order(rank, seconds)
            order = start.order.model_copy(update={"world": world})
            member.send(start.model_copy(update={"order": order}))

    def listen(self, seconds: float) -> list[ChildMessage]:
        """What the leader has said, waiting up to `seconds` for it. Raises `BrokenProtocolError` of any."""
        for peer in self._peers:
            peer.listen(0)
        if self.leader.silent:
            time.sleep(seconds)
            return []
        return self.leader.listen(seconds)

    @property
    def broken(self) -> bool:
        """True when a peer has gone and left no result: without it the others get no further."""
        return any(_gone(peer) and peer.result is None for peer in self._peers)

    def cause(self) -> ChildProcess:
        """Whose end is that of the job: the leader's, unless it failed because another did.

        To be asked before any is stopped. Who lost a peer may know sooner than we that it is gone.
        """
        end = time.monotonic() + _CAUSE_SECONDS
        while (found := self._cause()) is None and time.monotonic() < end:
            self.listen(_TICK_SECONDS)
        return found or self.leader

    def _cause(self) -> ChildProcess | None:
        if not self._peers or (self.leader.result is not None and not _bereaved(self.leader.result)):
            return self.leader
        return next((member for member in self.members if _at_fault(member)), None)

    def stop(self, grace_seconds: float) -> None:
        """End all: the leader with some grace, the others, which have nothing to say, without."""
        for peer in self._peers:
            peer.signal_group(signal.SIGKILL)
        self.leader.stop(grace_seconds)
        for peer in self._peers:
            peer.stop(0)

    def close(self) -> None:
        """End all that have not ended, and remove their directories."""
        for member in self.members:
            member.close()


def _lend(mine: JobDirectory, other: JobDirectory) -> None:
    """The same files in another child's directory, without a copy."""
    for path in mine.input.iterdir():
        os.link(path, other.input / path.name)


def _gone(member: ChildProcess) -> bool:
    return member.silent and member.returncode is not None


def _at_fault(member: ChildProcess) -> bool:
    """True for one that ended otherwise than well or for want of another."""
    if member.result is None:
        return _gone(member)
    return member.result.error is not None and not _bereaved(member.result)


def _bereaved(result: ChildResult) -> bool:
    return result.error is not None and result.error.code is ErrorCode.WORKER_LOST
