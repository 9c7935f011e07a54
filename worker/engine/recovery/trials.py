"""Short runs of training that tell how a long one is best done."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from worker.engine.formats.trainable import Trainable
from worker.engine.learning.objective import Figure
from worker.engine.learning.state import Weights
from worker.engine.learning.training import TrainingOptions, TrainingRecord

#: A trial is this share of the steps and of the time, and at most so many steps.
_SHARE: Final = 20
_MOST_STEPS: Final = 100
#: A long run at the rate that gets furthest in so few steps ends far from the weights that were kept, and
#: answers new rows worse for it. From so many steps on the rate falls with their number, to this share.
_FAR: Final = 250
_CALMEST: Final = 1 / 3


def tried(
    options: TrainingOptions,
    rates: Sequence[float],
    modes: Sequence[bool],
    run: Callable[[TrainingOptions], TrainingRecord],
    student: Trainable,
) -> TrainingOptions:
    """The options with the mode of batch norm that does best in a trial, and the learning rate that does,
    lowered for a long run.

    Modes are compared at a middle rate, then rates in the better mode. Every trial begins with the network
    as it is, and leaves it so.
    """
    trial = replace(
        options,
        steps=max(1, min(_MOST_STEPS, options.steps // _SHARE)),
        figures=1,
        patience=None,
        max_seconds=None if options.max_seconds is None else options.max_seconds / _SHARE,
    )
    middle = rates[len(rates) // 2]
    candidates = [replace(trial, learning_rate=middle, batch_statistics=mode) for mode in modes]
    mode = _best(candidates, run, student).batch_statistics
    candidates = [replace(trial, learning_rate=rate, batch_statistics=mode) for rate in rates]
    rate = _best(candidates, run, student).learning_rate
    if len(candidates) > 1:
        rate *= calmed(options.steps)
    return replace(options, learning_rate=rate, batch_statistics=mode)


def calmed(steps: int) -> float:
    """The share of a trial's rate that a run of so many steps is made at."""
    return min(1.0, max(_FAR / steps, _CALMEST))


def _best(
    candidates: Sequence[TrainingOptions],
    run: Callable[[TrainingOptions], TrainingRecord],
    student: Trainable,
) -> TrainingOptions:
    """The candidate whose trial ends best, the first of equals; a single one needs no trial."""
    if len(candidates) == 1:
        return candidates[0]
    weights = Weights(student)
    start = weights.copies()
    found: list[tuple[Figure, TrainingOptions]] = []
    for candidate in candidates:
        figure = run(candidate).curve[-1].figure
        weights.put_back(start)
        if figure is not None:
            found.append((figure, candidate))
    best = found[0]
    for other in found[1:]:
        best = other if other[0].better_than(best[0]) else best
    return best[1]
