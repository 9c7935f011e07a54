"""The objectives of recovery: to meet the targets, to imitate the upload, or both."""

from collections.abc import Sequence
from typing import Final, final

import torch

from worker.engine.data.tasks import Kind, Task, task_of
from worker.engine.learning.batching import Module, Rows, Tensors, run
from worker.engine.learning.losses import (
    Distance,
    Imitation,
    ImitationName,
    LossName,
    choose_imitation,
    choose_loss,
)
from worker.engine.learning.objective import Objective, Outputs

#: Labels that count for nothing.
_UNCOUNTED: Final = (-100, 255)


@final
class Answers:
    """Counts right answers, where targets are labels: by the largest score of a class, or by the side of the
    threshold on which a score lies. Scores of the upload tell whether they are probabilities."""

    def __init__(self, outputs: Outputs, targets: torch.Tensor) -> None:
        self._task: Task = task_of(
            [output.detach().float().cpu().numpy() for output in outputs], targets.numpy()
        )
        scores = outputs[self._task.output]
        self._threshold = 0.5 if bool(((scores >= 0) & (scores <= 1)).all()) else 0.0

    @property
    def name(self) -> str | None:
        """What the share of right answers is called; None where targets are values."""
        return None if self._task.kind is Kind.VALUES else self._task.name

    def count(self, batch: Rows, outputs: Outputs) -> tuple[int, int] | None:
        """Right answers, and all that count."""
        if batch.targets is None or self.name is None:
            return None
        output = outputs[self._task.output].detach().cpu()
        answers, labels = self._answers(output), batch.targets
        if self._task.kind is Kind.ONE_HOT:
            labels = labels.argmax(1)
        labels = labels.reshape(answers.shape)
        counts = torch.ones_like(labels, dtype=torch.bool)
        if self._task.many_places:
            counts = ~torch.isin(labels, torch.tensor(self._ignored(output)))
        return int(((answers == labels) & counts).sum()), int(counts.sum())

    def _answers(self, output: torch.Tensor) -> torch.Tensor:
        if self._task.axis is not None:
            return output.argmax(self._task.axis)
        return output if self._task.kind is Kind.LABELS else (output > self._threshold).long()

    def _ignored(self, output: torch.Tensor) -> Sequence[int]:
        """255 is a class where there are so many."""
        classes = 2 if self._task.axis is None else output.shape[self._task.axis]
        return _UNCOUNTED if classes <= 255 else _UNCOUNTED[:1]


@final
class Supervised(Objective):
    """A loss against the targets. What fits is seen in the outputs of the upload for a first batch."""

    def __init__(
        self, first: Rows, outputs: Outputs, name: LossName = "auto", smoothing: float = 0.0
    ) -> None:
        if first.targets is None:
            raise ValueError("there are no targets to learn from")
        self._loss = choose_loss(outputs, first.targets, name, smoothing=smoothing)
        self._answers = Answers(outputs, first.targets)
        self.loss_name, self.accuracy_name = self._loss.name, self._answers.name

    def loss(self, batch: Rows, outputs: Outputs) -> torch.Tensor:
        if batch.targets is None:
            raise ValueError("there are no targets to learn from")
        return self._loss(outputs, batch.targets)

    def right(self, batch: Rows, outputs: Outputs) -> tuple[int, int] | None:
        return self._answers.count(batch, outputs)


@final
class Imitating(Objective):
    """To give what the upload gives, in its outputs and in what is computed on the way (`inner`: the last so
    many outputs of both modules). The distance alone decides: on few rows it says more than equal answers."""

    def __init__(
        self,
        teacher: Module,
        outputs: Tensors,
        name: ImitationName = "auto",
        *,
        temperature: float = 2.0,
        inner: int = 0,
        inner_weight: float = 1.0,
    ) -> None:
        count = len(outputs) - inner
        self._teacher, self._count, self._inner_weight = teacher, count, inner_weight
        self._imitation: Imitation = choose_imitation(outputs[:count], name, temperature=temperature)
        self._distance = Distance() if inner else None
        self.loss_name = "distance from the upload"

    def loss(self, batch: Rows, outputs: Outputs) -> torch.Tensor:
        taught, count = self._taught(batch), self._count
        loss = self._imitation(outputs[:count], taught[:count])
        if self._distance is not None:
            loss = loss + self._inner_weight * self._distance(outputs[count:], taught[count:])
        return loss

    def _taught(self, batch: Rows) -> Tensors:
        with torch.no_grad():
            return run(self._teacher, batch)


@final
class Mixed(Objective):
    """Targets and upload, with a weight between them; what counts as right is another's to say."""

    def __init__(self, parts: Sequence[tuple[Objective, float]], judge: Objective) -> None:
        self._parts = [(part, weight) for part, weight in parts if weight]
        self._judge = judge
        self.loss_name = " and ".join(part.loss_name for part, _ in self._parts)
        self.accuracy_name = judge.accuracy_name

    def loss(self, batch: Rows, outputs: Outputs) -> torch.Tensor:
        return torch.stack([part.loss(batch, outputs) * weight for part, weight in self._parts]).sum()

    def right(self, batch: Rows, outputs: Outputs) -> tuple[int, int] | None:
        return self._judge.right(batch, outputs)
