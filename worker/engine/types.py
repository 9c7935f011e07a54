"""Data between the stages: what was selected, layer by layer. Layers go by name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

import numpy as np

from api_schemas.report import AccuracyReport, AgreementReport, CheckResult, LatencyReport

Array = np.ndarray[Any, np.dtype[Any]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Scores = np.ndarray[Any, np.dtype[np.float64]]
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Goal:
    """What to reach: a share of prunable weights to remove, and layers that get a share of their own."""

    sparsity: float
    overrides: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Histogram:
    """Counts between edges, of values or (log10) of the logarithms of positive values."""

    edges: Array
    counts: Array
    log10: bool


@final
@dataclass(frozen=True)
class _Bits:
    """A mask of a dataclass, held as bits and made anew at every look."""

    name: str

    def __get__(self, instance: object, owner: type | None = None) -> Mask:
        bits, shape = vars(instance)[self.name]
        return np.unpackbits(bits, count=math.prod(shape)).view(np.bool_).reshape(shape)

    def __set__(self, instance: object, mask: Mask) -> None:
        vars(instance)[self.name] = (np.packbits(mask), mask.shape)


def _packed(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Class decorator: the field of that name, a mask, takes an eighth of the memory."""

    def change(kind: type[Kind]) -> type[Kind]:
        setattr(kind, name, _Bits(name))
        return kind

    return change


@_packed("units")
@dataclass(frozen=True)
class BlockPlan:
    """Which units of a block are kept, and how that was decided; `threshold` is the smallest kept score."""

    block: str
    units: Mask
    requested: float | None
    threshold: float | None = None
    scores: Histogram | None = None


@_packed("keep")
@dataclass(frozen=True)
class LayerPlan:
    """What one layer keeps, weight by weight. `keep` lies in the operator's layout."""

    layer: str
    keep: Mask
    requested: float | None
    threshold: float | None = None
    scores: Histogram | None = None

    @property
    def pruned(self) -> int:
        """Number of weights that go."""
        return int(self.keep.size - np.count_nonzero(self.keep))


@dataclass(frozen=True)
class Plan:
    """What every layer keeps, and the goal that it was made for. `channels` says, where whole channels go,
    which units of each block stay."""

    layers: tuple[LayerPlan, ...]
    channels: tuple[BlockPlan, ...] = ()
    goal: Goal | None = None

    def of(self, layer: str) -> LayerPlan:
        """The plan of that layer; raises KeyError."""
        return next(plan for plan in self.layers if plan.layer == layer)

    @property
    def sparsity(self) -> float:
        """Share of planned weights that go."""
        total = sum(plan.keep.size for plan in self.layers)
        return sum(plan.pruned for plan in self.layers) / total if total else 0.0


@dataclass(frozen=True)
class FileFacts:
    """A model file on disk; `compressed_bytes` is its size under zstd."""

    filename: str
    sha256: str
    size_bytes: int
    compressed_bytes: int


@dataclass(frozen=True)
class Evidence:
    """What verification checked and measured. A figure without a value has a reason beside it."""

    before: FileFacts
    after: FileFacts
    checks: tuple[CheckResult, ...]
    latency: LatencyReport | None = None
    latency_reason: str | None = None
    agreement: AgreementReport | None = None
    agreement_reason: str | None = None
    accuracy: AccuracyReport | None = None
    accuracy_reason: str | None = None
