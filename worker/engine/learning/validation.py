"""How good a network is on rows that it does not learn from."""

from dataclasses import dataclass
from typing import final

import torch

from worker.engine.learning.batching import Batcher, Module, run
from worker.engine.learning.objective import Figure, Objective

#: Rows that a figure is taken on at most, and rows run at once.
MOST_ROWS = 10_000
BATCH = 256


@final
@dataclass(frozen=True)
class Validation:
    """Takes figures of a module by an objective, on the same rows in the same order every time."""

    objective: Objective
    batcher: Batcher

    @torch.no_grad()
    def figure(self, module: Module) -> Figure:
        """Mean loss over the rows, and the share of right answers where answers can be right."""
        total, rows, right, answers = 0.0, 0, 0, 0
        for batch in self.batcher.batches(MOST_ROWS):
            outputs = run(module, batch)
            loss = self.objective.loss(batch, outputs)
            counted = self.objective.right(batch, outputs)
            total, rows = total + float(loss) * batch.rows, rows + batch.rows
            if counted is not None:
                right, answers = right + counted[0], answers + counted[1]
        return Figure(total / rows, right / answers if answers else None)
