"""The learning rate of every step, a pure function of the step: resuming needs no memory of it."""

import math
from dataclasses import dataclass
from typing import Literal, final

Schedule = Literal["cosine", "constant"]
#: Where cosine ends, as a share of the highest rate.
_LAST = 0.01


@final
@dataclass(frozen=True)
class Rate:
    """Linear warm-up to `highest` over a share of the steps, then constant, or half a cosine down."""

    highest: float
    steps: int
    schedule: Schedule = "cosine"
    warm_up: float = 0.05

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        warming = round(self.warm_up * self.steps)
        if step < warming:
            return self.highest * (step + 1) / (warming + 1)
        if self.schedule == "constant":
            return self.highest
        done = (step - warming) / max(1, self.steps - warming)
        return self.highest * (_LAST + (1.0 - _LAST) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))))
