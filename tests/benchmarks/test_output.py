"""Tables and saved results."""

import json
from pathlib import Path

from benchmarks import output


def test_cells_cannot_break_the_table() -> None:
    text = output.markdown(("a", "b"), [("x|y", "two\nlines"), (None, 3)])
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| x\\|y | two lines |", "|  | 3 |"]


def test_saved_results_say_where_they_were_measured(tmp_path: Path) -> None:
    output.save(tmp_path / "deep" / "r.json", {"seconds": 1.5})
    saved = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert saved["seconds"] == 1.5 and saved["machine"]["cores"] >= 1
    output.save(None, {})
