"""Gates: limits that turn a finished job into exit code 3 when its figures do not meet them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from api_schemas.jobs import Summary
from api_schemas.report import AccuracyReport


@final
@dataclass(frozen=True)
class Gates:
    """Limits. Accuracies are in the report's unit (0 to 1), the drop in points of 100, sizes are ratios."""

    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None
    max_size_ratio: float | None = None
    max_compressed_ratio: float | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in vars(self).values())


@final
@dataclass(frozen=True)
class Verdict:
    """One gate: what was measured (None when nothing was) against the limit."""

    gate: str
    limit: float
    value: float | None
    met: bool
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return dict(vars(self))

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.gate} {self.limit:g}: not met, {self.reason}"
        return f"{self.gate} {self.limit:g}: {'met' if self.met else 'not met'}, measured {self.value:.6g}"


def judge(gates: Gates, summary: Summary, accuracy: AccuracyReport | None) -> list[Verdict]:
    """A verdict per gate that was set. A figure that was not measured meets no gate."""
    size = _ratio(summary.size_bytes_after, summary.size_bytes_before)
    packed = _ratio(summary.compressed_bytes_after, summary.compressed_bytes_before)
    after, drop, reason = _accuracy(summary, accuracy)
    checks: list[tuple[str, float | None, float | None, Callable[[float, float], bool], str]] = [
        ("min_accuracy", gates.min_accuracy, after, lambda value, limit: value >= limit, reason),
        ("max_accuracy_drop", gates.max_accuracy_drop, drop, lambda value, limit: value <= limit, reason),
        ("max_size_ratio", gates.max_size_ratio, size, lambda value, limit: value <= limit, _NO_SIZE),
        ("max_compressed_ratio", gates.max_compressed_ratio, packed, lambda v, limit: v <= limit, _NO_SIZE),
    ]
    return [
        Verdict(name, limit, value, met=value is not None and holds(value, limit), reason=why)
        if value is None
        else Verdict(name, limit, value, met=holds(value, limit))
        for name, limit, value, holds, why in checks
        if limit is not None
    ]


_NO_SIZE = "the size was not measured"


def _ratio(after: int | None, before: int | None) -> float | None:
    return None if after is None or not before else after / before


def _accuracy(summary: Summary, accuracy: AccuracyReport | None) -> tuple[float | None, float | None, str]:
    """(accuracy after, drop in points, why there are none)."""
    before, after = summary.accuracy_before, summary.accuracy_after
    if before is None or after is None:
        return None, None, "accuracy was not measured; give --data with `targets`"
    if accuracy is not None and accuracy.lower_is_better:
        return None, None, f"the measured figure is {accuracy.metric}, of which less is better"
    return after, 100 * (before - after), ""
