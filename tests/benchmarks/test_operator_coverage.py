"""The table of operators in torch: what it counts, and what it says when the bar is missed."""

import json

import pytest

from benchmarks import operator_coverage
from tests.engine.formats.conformance import judged, scope


@pytest.fixture
def two_families(monkeypatch):
    families = {
        "detection": ["test_nonmaxsuppression_identical_boxes"],
        "uncovered": ["test_ai_onnx_ml_tree_ensemble_single_tree", "test_flexattention"],
    }
    monkeypatch.setattr(operator_coverage, "families", lambda: families)


def test_cases_are_counted_by_who_passes_them(two_families):
    rows = {row.family: row for row in operator_coverage.rows(gradients=False)}
    assert (rows["detection"].onnxruntime, rows["detection"].both, rows["detection"].share) == (1, 1, 1.0)
    assert (rows["uncovered"].onnxruntime, rows["uncovered"].both, rows["uncovered"].beyond) == (1, 0, 0)
    assert sum(row.operators for row in rows.values()) == len(operator_coverage.covered())


def test_missing_the_bar_is_a_failure(two_families, monkeypatch, tmp_path, capsys):
    path = tmp_path / "table.json"
    monkeypatch.setattr("sys.argv", ["operator_coverage", "--no-gradients", "--json", str(path)])
    assert operator_coverage.main() == 1
    assert json.loads(path.read_text())["share"] == 0.5
    shown = capsys.readouterr().out
    assert scope.FAILING["test_ai_onnx_ml_tree_ensemble_single_tree"] in shown
    assert judged.judged("test_flexattention").torch is not None
    assert scope.FAILING_BOTH["test_flexattention"] in shown


def test_gradients_are_counted_where_they_agree(monkeypatch):
    key = ("", "Softsign")
    monkeypatch.setattr(operator_coverage, "keys", lambda: [key])
    counted = operator_coverage._differentiated()
    assert counted == {key: len(operator_coverage.samples()[key])}
    assert counted[key]
    monkeypatch.setattr(operator_coverage, "checked", lambda sample: 1 / 0 if sample is None else False)
    assert operator_coverage._differentiated() == {key: 0}
