"""Outcomes of the whole suite, computed once in a session."""

import functools
from collections import defaultdict
from dataclasses import dataclass

from tests.engine.formats.conformance.scope import excluded
from tests.engine.formats.conformance.suite import Case, by_onnxruntime, by_torch, cases, family, outcome


@dataclass(frozen=True, eq=False)
class Judged:
    """A case within scope: what ONNX Runtime and the module made of it, None for agreement."""

    case: Case
    onnxruntime: str | None
    torch: str | None


@functools.cache
def families() -> dict[str, list[str]]:
    """Names of the cases within scope by family."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, case in cases().items():
        if excluded(case) is None:
            found[family(case)].append(name)
    return dict(sorted(found.items()))


@functools.cache
def judged(name: str) -> Judged:
    """The outcomes of one family's cases."""
    case = cases()[name]
    return Judged(case, outcome(case, by_onnxruntime), outcome(case, by_torch))
