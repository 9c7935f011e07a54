"""How far the outputs moved: cosine, largest difference and same top class, summed up batch by batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from api_schemas.report import AgreementReport, DataSource, OutputAgreement
from worker.engine.types import Array


@final
@dataclass
class OutputTally:
    """Running sums of one output. Places where either side is not finite are counted and left out."""

    name: str
    dot: float = 0.0
    norm_before: float = 0.0
    norm_after: float = 0.0
    largest: float | None = None
    same: int = 0
    ranked: int = 0
    not_finite: int = 0
    numeric: bool = True
    comparable: bool = True
    identical: bool = True

    def add(self, before: Array, after: Array) -> None:
        """Take in one batch of this output."""
        if before.shape != after.shape or before.dtype.kind in "OSUc":
            self.comparable = False
            return
        self.identical = self.identical and before.tobytes() == after.tobytes()
        self._rank(before, after)
        self.numeric = self.numeric and before.dtype.kind not in "biu"
        old, new = (side.astype(np.float64).ravel() for side in (before, after))
        finite = np.isfinite(old) & np.isfinite(new)
        self.not_finite += int(np.count_nonzero(~finite & ~_alike(old, new)))
        self._sum(old[finite], new[finite])

    def _sum(self, old: Array, new: Array) -> None:
        if not old.size:
            return
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # squares of numbers over 1e154; cosine is null then
            self.dot += float(old @ new)
            self.norm_before += float(old @ old)
            self.norm_after += float(new @ new)
            self.largest = max(self.largest or 0.0, float(np.abs(old - new).max()))

    def _rank(self, before: Array, after: Array) -> None:
        """Count rows with the same class on top: of scores the largest, of labels the label itself."""
        if before.dtype.kind in "biu":
            self.same += int(np.count_nonzero(before == after))
            self.ranked += before.size
            return
        old, new = class_scores(before), class_scores(after)
        if old is None or new is None:
            return
        valid = ~(np.isnan(old).any(axis=1) | np.isnan(new).any(axis=1))
        self.same += int(np.count_nonzero((old.argmax(axis=1) == new.argmax(axis=1)) & valid))
        self.ranked += len(old)

    def result(self) -> OutputAgreement:
        """The figures; null where they make no sense for this output."""
        if not self.comparable:
            return OutputAgreement(name=self.name)
        return OutputAgreement(
            name=self.name,
            cosine=self._cosine() if self.numeric else None,
            max_abs_difference=self.largest,
            top1_agreement=self.same / self.ranked if self.ranked else None,
        )

    def _cosine(self) -> float | None:
        if self.largest is None:
            return None
        if self.largest == 0.0:
            return 1.0
        norms = math.sqrt(self.norm_before) * math.sqrt(self.norm_after)
        if not (math.isfinite(norms) and math.isfinite(self.dot)):
            return None
        return max(-1.0, min(1.0, self.dot / norms)) if norms > 0 else 0.0


def _alike(old: Array, new: Array) -> Array:
    """Places where both are NaN, or the same infinity: nothing moved there."""
    return np.asarray((np.isnan(old) & np.isnan(new)) | (old == new))


def class_scores(output: Array) -> Array | None:
    """An output as (rows, classes), or None when it has no axis of two or more classes after the row."""
    trailing = math.prod(output.shape[2:]) == 1  # (rows, classes, 1, 1), as convolutional heads end
    squeezed = output.reshape(output.shape[:2]) if output.ndim > 2 and trailing else output
    return squeezed if squeezed.ndim == 2 and squeezed.shape[1] >= 2 else None


@final
@dataclass
class AgreementTally:
    """All outputs of a model, by position; `rows` counts rows of data."""

    names: Sequence[str]
    rows: int = 0
    outputs: list[OutputTally] = field(default_factory=list)

    def add(self, before: Sequence[Array], after: Sequence[Array], rows: int) -> None:
        """Take in the outputs of both files for one batch."""
        if not self.outputs:
            self.outputs = [OutputTally(name_of(self.names, index)) for index in range(len(before))]
        self.rows += rows
        for index, tally in enumerate(self.outputs):
            if index < len(before) and index < len(after):
                tally.add(before[index], after[index])
            else:
                tally.comparable = False

    def report(self, source: DataSource, seed: int | None = None) -> AgreementReport:
        """The figures of everything taken in, and a sentence about them."""
        return AgreementReport(
            source=source,
            rows=self.rows,
            seed=seed,
            outputs=[tally.result() for tally in self.outputs],
            remark=" ".join([_headline(self.outputs), *_caveats(self.outputs)]),
        )


def name_of(names: Sequence[str], index: int) -> str:
    """The name of an output by position; sequences may be laid out as more outputs than there are names."""
    return names[index] if index < len(names) else f"output {index + 1}"


def _headline(outputs: Sequence[OutputTally]) -> str:
    if outputs and all(tally.identical and tally.comparable for tally in outputs):
        return "Every output is bit-identical."
    ranked = next((tally for tally in outputs if tally.ranked and tally.comparable), None)
    if ranked is not None:
        counts = f"{ranked.same:,} of {ranked.ranked:,} cases"
        return f"The top class of {ranked.name[:80]!r} is the same in {counts}."
    return "The cosine is taken over all rows together."


def _caveats(outputs: Sequence[OutputTally]) -> list[str]:
    """What the figures leave out."""
    caveats = list[str]()
    odd = [tally.name[:80] for tally in outputs if not tally.comparable]
    if odd:
        caveats.append(
            f"Not compared, as the two files give other shapes or no numbers: {', '.join(odd[:5])}."
        )
    broken = sum(tally.not_finite for tally in outputs if tally.comparable)
    if broken:
        caveats.append(f"{broken:,} values are NaN or infinite in one file only and are left out.")
    return caveats
