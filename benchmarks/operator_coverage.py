"""ONNX operators in torch, judged by ONNX's own operator test-suite and by finite differences.

The suite is generated from the installed `onnx` package. A case counts as passed when all outputs are within
the suite's own tolerances of its own expected outputs. The bar: of what ONNX Runtime passes, 95 %.
"""

import argparse
import sys
from collections import Counter
from dataclasses import dataclass
from typing import final

import onnx
import onnxruntime
import torch

from benchmarks.output import markdown, note, parser, save, say
from tests.engine.formats.conformance.gradients import Key, Sample, checked, keys, samples
from tests.engine.formats.conformance.judged import Judged, families, judged
from tests.engine.formats.conformance.scope import EITHER_WAY, EXCLUSIONS, FAILING, FAILING_BOTH, excluded
from tests.engine.formats.conformance.suite import by_onnxruntime, cases, outcome
from worker.engine.formats.operators.registry import covered, find

#: The share of the cases passed by ONNX Runtime that the module must pass.
BAR = 0.95
_NEWEST = 1000


@final
@dataclass(frozen=True)
class Row:
    """One family: operators, cases, and gradients that agreed."""

    family: str
    operators: int
    onnxruntime: int
    both: int
    beyond: int
    gradients: int
    samples: int

    @property
    def share(self) -> float:
        """Of the cases that ONNX Runtime passes, those that the module passes too."""
        return self.both / self.onnxruntime if self.onnxruntime else 1.0

    def cells(self) -> list[str]:
        """As a row of the table."""
        figures = (self.operators, self.onnxruntime, self.both)
        share = f"{self.share:.1%}" if self.onnxruntime else "–"
        more = (share, self.beyond, self.gradients, self.samples)
        return [self.family, *map(str, figures), *map(str, more)]


COLUMNS = (
    "family",
    "operators",
    "cases ONNX Runtime passes",
    "of these passed",
    "share",
    "passed that it does not",
    "operators with gradients checked",
    "gradients checked",
)


def rows(gradients: bool) -> list[Row]:
    """All families, judged now."""
    by_family = Counter(_family(key) for key in covered())
    differentiated = _differentiated() if gradients else {}
    found = []
    for name in sorted(set(families()) | set(by_family)):
        outcomes = [judged(case) for case in families().get(name, ())]
        found.append(_row(name, by_family[name], outcomes, differentiated))
        note(f"{name}: {len(outcomes)} cases")
    return found


def _row(name: str, operators: int, outcomes: list[Judged], gradients: dict[Key, int]) -> Row:
    passed = [one for one in outcomes if one.onnxruntime is None]
    beyond = [one for one in outcomes if one.onnxruntime is not None and one.torch is None]
    counts = [count for key, count in gradients.items() if _family(key) == name and count]
    return Row(
        family=name,
        operators=operators,
        onnxruntime=len(passed),
        both=sum(one.torch is None for one in passed),
        beyond=len(beyond),
        gradients=len(counts),
        samples=sum(counts),
    )


def _family(key: Key) -> str:
    found = find(*key, _NEWEST)
    return "uncovered" if found is None else found.function.__module__.rpartition(".")[2]


def _differentiated() -> dict[Key, int]:
    """How many samples of each operator have gradients that agree with finite differences."""
    return {key: sum(map(_agrees, samples().get(key, ()))) for key in keys()}


def _agrees(sample: Sample) -> bool:
    try:
        return checked(sample)
    except (AssertionError, RuntimeError) as error:
        note(f"{sample.name}: {error}")
        return False


def _total(found: list[Row]) -> Row:
    sums = [sum(column) for column in zip(*(tuple(vars(row).values())[1:] for row in found), strict=True)]
    return Row("all", *sums)


def show(found: list[Row]) -> Row:
    """Print the table and what is not passed; the last row."""
    total = _total(found)
    say(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}, torch {torch.__version__}\n")
    say(markdown(COLUMNS, [row.cells() for row in (*found, total)]))
    failing = [one for names in families().values() for one in map(judged, names) if one.torch is not None]
    for title, passes in (("Passed by ONNX Runtime alone", True), ("Passed by neither", False)):
        those = [one for one in failing if (one.onnxruntime is None) == passes]
        say(f"\n{title}: {len(those)}\n")
        say(markdown(("case", "why"), [(one.case.name, _reason(one)) for one in those]))
    say("\nLeft out\n")
    say(markdown(("why", "cases", "ONNX Runtime passes"), _left_out()))
    return total


def _left_out() -> list[tuple[str, int, int]]:
    whys = {name: excluded(case) for name, case in cases().items()}
    passed = {name for name, why in whys.items() if why and outcome(cases()[name], by_onnxruntime) is None}
    return [
        (title, sum(why == title for why in whys.values()), sum(whys[name] == title for name in passed))
        for title in EXCLUSIONS
    ]


def _reason(one: Judged) -> str:
    written = EITHER_WAY | FAILING | FAILING_BOTH
    return written.get(one.case.name) or one.torch or ""


def arguments() -> argparse.Namespace:
    """What the command line says."""
    made = parser(__doc__)
    made.add_argument("--no-gradients", action="store_true", help="leave out finite differences")
    return made.parse_args()


def main() -> int:
    """Exit code 1 when the bar is missed."""
    options = arguments()
    torch.set_num_threads(1)
    found = rows(not options.no_gradients)
    total = show(found)
    save(options.json, {"families": [vars(row) for row in found], "share": total.share})
    return 0 if total.share >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
