"""What a weight is worth: the abstract criterion and the scoring of one network by it."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.layer import Layer
from worker.engine.registry import Part
from worker.engine.types import Array, Mask, Scores


@dataclass(frozen=True)
class Subject:
    """What is scored: a network, its analysis, the layers in question, and the seed of the job.

    `data` holds the rows that criteria may look at; `context` is there whenever a job runs. `shares` is what
    part of each layer's weights, by its name, is about to go one by one: None where whole units go or it is
    not known yet. `pattern` (n, m) says that n of every m neighbouring inputs stay.
    """

    network: Network
    graph: Graph
    layers: tuple[Layer, ...]
    seed: int = 0
    data: Dataset | None = None
    context: Context | None = None
    shares: Mapping[str, float] | None = None
    pattern: tuple[int, int] | None = None


class Scorer(abc.ABC):
    """Scores of one subject. Layers may be scored in any order unless the criterion gives a sequence."""

    @abc.abstractmethod
    def score(self, layer: Layer) -> Scores:
        """One number per weight, larger is worth more, layout (groups, outputs, inputs, *taps), float64.

        Weights that are zero already score −∞: they are pruned and go first.
        """

    @abc.abstractmethod
    def settle(self, layer: Layer, keep: Mask) -> None:
        """Hear what a layer keeps; only criteria that score in sequence mind."""


class Criterion(Part, abc.ABC):
    """Abstract axis `criterion`."""

    axis: ClassVar[str] = "criterion"

    @property
    def degree(self) -> int:
        """The power of the weight that a score grows with: 1 for |w|, 2 for w²."""
        return 1

    @property
    def parts(self) -> int:
        """In how many equal parts each cut is made, scores computed anew for each."""
        return 1

    @property
    def by_share(self) -> bool:
        """Whether scores of single weights depend on how many of each layer's go. They are then asked for
        twice: without that knowledge, to learn it from what the allocation makes of them, and with it."""
        return False

    @abc.abstractmethod
    def scorer(self, subject: Subject) -> Scorer:
        """Make ready to score. Never changes the network."""

    def sequence(self, layers: Sequence[Layer]) -> Sequence[Layer] | None:
        """The order in which layers must be scored and settled, or None when each stands alone."""
        return None


def ranked(scores: Scores, weights: Array) -> Scores:
    """Scores with −∞ where the weight is zero already (trap 10 of the reference page: −∞ marks pruned)."""
    np.copyto(scores, -np.inf, where=weights == 0)
    return scores
