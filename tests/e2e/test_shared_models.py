"""Each of the real models beside the checkout goes through HTTP at 80 % and keeps every promise."""

from pathlib import Path

import pytest

from benchmarks.shared_models import SHARED, cases, measure
from client import Lookahead

pytestmark = [
    pytest.mark.shared,
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason="the shared models are not beside the checkout"),
]


def names() -> list[str]:
    if not SHARED.is_dir():
        return []
    return sorted(
        str(path.relative_to(SHARED))
        for path in SHARED.rglob("*")
        if path.is_file() and path.suffix not in (".tsv", ".data")
    )


@pytest.mark.parametrize("name", names())
def test_shared_model(client: Lookahead, tmp_path: Path, name: str) -> None:
    stem = name.removesuffix(".gz")
    (case,) = [case for case in cases(tmp_path) if str(case.path).endswith(stem)]
    row = measure(client, case, tmp_path, "lookahead", 0.8)
    assert row.outcome == row.expected, row.message
    assert all(row.promises.values()), row
    if row.outcome == "succeeded":
        assert row.sparsity is not None and row.sparsity == row.recounted
        assert row.sparsity > 0.79
