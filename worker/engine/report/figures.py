"""Figures of a report as text: each is taken from the report's JSON by pointer and says so in the page.

A figure is shown as ``<data value="exact" data-json="/pointer">rounded</data>``, so that page and JSON can
be held against each other. Rounding never turns a share that is not 0 or 1 into 0 % or 100 %.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from markupsafe import Markup

from api_schemas.report import Report

NOT_MEASURED = Markup('<span class="none" title="not measured">–</span>')
_MINUS = "−"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def count(value: float) -> str:
    """An exact whole number with thousands separators."""
    return f"{int(value):,}".replace("-", _MINUS)


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, in plain notation where that is short."""
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # of the rounded value: 0.9996 counts as 1.00
    if not -4 <= exponent < 7:
        return _power_of_ten(value, digits)
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.replace("-", _MINUS)


def _power_of_ten(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{superscript(int(exponent))}".replace("-", _MINUS)


def superscript(exponent: int) -> str:
    """An integer in superscript characters."""
    return str(exponent).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))


def _prefixed(value: float, base: str) -> str:
    """`value` with an SI prefix and three significant digits: 1.23 MB."""
    if value < 1000:
        return f"{int(value)} {base}".strip()
    step = min(int(math.log10(value) // 3), len(_PREFIXES) - 1)
    if f"{value / 1000**step:.3g}" == "1e+03" and step + 1 < len(_PREFIXES):
        step += 1
    return f"{significant(value / 1000**step)} {_PREFIXES[step]}{base}"


def size(value: float) -> str:
    """Bytes in decimal units, as disks and downloads count them."""
    return _prefixed(value, "B")


def large(value: float) -> str:
    """A large count in short form: 12.3 M."""
    return _prefixed(value, "").strip()


def percent(value: float) -> str:
    """A share with two decimals; what is not all or nothing never reads as 0 % or 100 %."""
    if 0 < value < 0.00005:
        return "< 0.01 %"
    if 0.99995 <= value < 1:
        return "> 99.99 %"
    return f"{100 * value:.2f} %".replace("-", _MINUS)


def milliseconds(value: float) -> str:
    """A time given in milliseconds."""
    return f"{significant(value)} ms"


def seconds(value: float) -> str:
    """A time given in seconds."""
    return f"{significant(value)} s" if value >= 0.01 or value == 0 else "< 0.01 s"


def times(value: float) -> str:
    """A factor."""
    return f"{significant(value)}×"


def cosine(value: float) -> str:
    """A cosine with four to six decimals that reads as 1 only when it is."""
    if 0.9999995 <= value < 1:
        return "> 0.999999"
    whole, decimals = f"{value:.6f}".replace("-", _MINUS).split(".")
    return f"{whole}.{decimals[:4]}{decimals[4:].rstrip('0')}"


def number(value: float) -> str:
    """Any number, four significant digits."""
    return significant(value, 4)


def plain(value: float) -> str:
    """An integer without separators, such as a seed or a version."""
    return str(int(value))


KINDS: Mapping[str, Callable[[float], str]] = {
    "count": count,
    "large": large,
    "size": size,
    "percent": percent,
    "ms": milliseconds,
    "s": seconds,
    "times": times,
    "cosine": cosine,
    "number": number,
    "plain": plain,
}


@final
@dataclass(frozen=True)
class Figures:
    """The JSON of one report, with ways to show its numbers."""

    json: dict[str, Any]

    @classmethod
    def of(cls, report: Report) -> "Figures":
        """Figures of a report. Numbers that JSON cannot hold (NaN, infinity) count as not measured."""
        return cls(_finite(report.model_dump(mode="json")))

    def at(self, pointer: str) -> Any:
        """The JSON value at a pointer; `None` when it or anything on the way is null."""
        value: Any = self.json
        for key in pointer.split("/")[1:]:
            if value is None:
                return None
            value = value[int(key)] if isinstance(value, Sequence) else value[key]
        return value

    def show(self, pointer: str, kind: str) -> Markup:
        """The number at a pointer, rounded for reading, exact in the `value` attribute."""
        value = self.at(pointer)
        if value is None:
            return NOT_MEASURED
        return Markup('<data value="{}" data-json="{}">{}</data>').format(
            repr(value), pointer, KINDS[kind](value)
        )

    def change(self, before: str, after: str) -> Markup | None:
        """The relative change between two numbers: −79.2 %. None when either is missing or `before` is 0."""
        first, second = self.at(before), self.at(after)
        if first is None or second is None or first == 0:
            return None
        change = second / first - 1
        return (
            _derived(change, signed_percent(change), "change", before, after)
            if math.isfinite(change)
            else None
        )

    def difference(self, before: str, after: str, *, points: bool) -> Markup | None:
        """`after` − `before`, in percentage points when both are shares. None when either is missing."""
        first, second = self.at(before), self.at(after)
        if first is None or second is None or not math.isfinite(second - first):
            return None
        text = f"{_signed(100 * (second - first), 2)} points" if points else _signed_number(second - first)
        return _derived(second - first, text, "difference", before, after)


def _derived(value: float, text: str, how: str, *pointers: str) -> Markup:
    return Markup('<data value="{}" data-{}="{}">{}</data>').format(
        repr(value), how, " ".join(pointers), text
    )


def signed_percent(value: float) -> str:
    """A relative change with its sign, one decimal: −79.2 %, ±0 %."""
    if value == 0:
        return "±0 %"
    if -1 < value <= -0.9995:
        return "< −99.9 %"
    return f"{_signed(100 * value, 1)} %"


def _signed(value: float, decimals: int) -> str:
    text = f"{abs(value):,.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        return "±0"
    return ("+" if value > 0 else _MINUS) + text


def _signed_number(value: float) -> str:
    if value == 0:
        return "±0"
    return ("+" if value > 0 else _MINUS) + significant(abs(value))


def _finite(value: Any) -> Any:
    """JSON without NaN and infinities, which pydantic keeps when it dumps to Python."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
