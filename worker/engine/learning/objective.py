"""What training makes small, and how good a network is: figures of validation and which of two is better."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from worker.engine.learning.batching import Rows

Outputs = Sequence[torch.Tensor]


@final
@dataclass(frozen=True)
class Figure:
    """How good a network is on rows that it does not learn from: mean loss, and share of right answers."""

    loss: float
    accuracy: float | None = None

    @property
    def finite(self) -> bool:
        """False for a network that gives NaN or infinity."""
        return math.isfinite(self.loss)

    def better_than(self, other: "Figure") -> bool:
        """More right answers, or, at as many, a smaller loss. What is not finite is better than nothing."""
        if not self.finite or not other.finite:
            return self.finite and not other.finite
        if self.accuracy is not None and other.accuracy is not None and self.accuracy != other.accuracy:
            return self.accuracy > other.accuracy
        return self.loss < other.loss


class Objective(abc.ABC):
    """A loss of a network's outputs on a batch, and perhaps a count of right answers."""

    #: What the loss is called in reports, and what the share of right answers is called if there is one.
    loss_name: str
    accuracy_name: str | None = None

    @abc.abstractmethod
    def loss(self, batch: Rows, outputs: Outputs) -> torch.Tensor:
        """The mean over the rows, differentiable in the outputs."""

    def right(self, batch: Rows, outputs: Outputs) -> tuple[int, int] | None:
        """How many answers are right of how many; None where nothing can be right or wrong."""
        return None

    @property
    def metric(self) -> str:
        """What decides between two networks."""
        return self.accuracy_name or self.loss_name
