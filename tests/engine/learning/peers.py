"""Places in an exchange, each taken by a thread: what processes do between them, quickly."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker import exchange as made_by_worker
from worker.engine.learning.exchange import Exchange


@contextmanager
def places(size: int, slot_bytes: int = 4096, seconds: float = 20.0) -> Iterator[list[Exchange]]:
    """The exchange of so many peers, as each of them sees it."""
    made = made_by_worker.Exchange(size, slot_bytes)
    orders = [made.order(rank, seconds) for rank in range(size)]
    # As at the start of a process: each has descriptors of its own, and those of the maker are let go.
    own = [
        order.model_copy(
            update={
                "memory": os.dup(order.memory),
                "reads": [os.dup(pipe) for pipe in order.reads],
                "writes": [os.dup(pipe) for pipe in order.writes],
            }
        )
        for order in orders
    ]
    made.close()
    found = [Exchange(order) for order in own]
    for order in own:
        os.close(order.memory)
    try:
        yield found
    finally:
        for place in found:
            place.close()


def together(found: list[Exchange], act: Callable[[Exchange], object]) -> list[object]:
    """What the act gives in each place, done in all at once; an error comes back in its place."""
    answers: list[object] = [None] * len(found)

    def take(place: Exchange) -> None:
        try:
            answers[place.rank] = act(place)
        except Exception as error:
            answers[place.rank] = error

    threads = [threading.Thread(target=take, args=(place,)) for place in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return answers
