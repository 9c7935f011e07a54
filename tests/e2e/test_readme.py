"""The README's curl session, run as it stands; its links; its table of what works."""

import re
import subprocess
from pathlib import Path

import onnx
import pytest

from api_schemas.catalogue import load_catalogue
from api_schemas.errors import ErrorCode, http_status
from benchmarks.recount import tensors
from demo.serving import Served
from docs import methods
from tests.e2e import files

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def session() -> str:
    found = re.search(r"<!-- curl session.*?-->\n```bash\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_curl_session_works_as_pasted(service: Served, tmp_path: Path) -> None:
    output = tmp_path / "demo-output"
    output.mkdir()
    files.onnx_file(output).rename(output / "digits.onnx")
    files.data_file(output).rename(output / "digits.npz")
    assert "http://127.0.0.1:8000" in session()
    script = session().replace("http://127.0.0.1:8000", service.url)
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "'sparsity': 0." in done.stdout and "'accuracy_after': None" not in done.stdout
    onnx.checker.check_model(str(tmp_path / "pruned.onnx"))
    weight = tensors(tmp_path / "pruned.onnx")["fc0.weight"]
    assert (weight == 0).sum() == weight.size - round(0.2 * weight.size)
    assert (tmp_path / "report.html").read_text().lower().startswith("<!doctype html>")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (document.parent / t).exists()]
    assert missing == []


def test_what_is_said_to_work_is_in_the_catalogue() -> None:
    table = README.partition("## What works today")[2].partition("## Measured")[0]
    works = " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    known = {method.name for method in load_catalogue().methods}
    known |= {preset.name for preset in load_catalogue().presets}
    named = set(re.findall(r"`([a-z_]+)`", works)) - {"lookahead"}
    assert named and named <= known
    assert {"lookahead", "magnitude", "uniform", "given"} <= known


def test_the_page_of_methods_is_fresh() -> None:
    assert methods.PAGE.read_text(encoding="utf-8") == methods.page(load_catalogue())


def test_every_error_code_has_its_line() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|", text, re.MULTILINE))
    assert rows.keys() == {code.value for code in ErrorCode}
    assert all(str(http_status(ErrorCode(code))) in statuses for code, statuses in rows.items())


def test_documents_name_no_machine() -> None:
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert not re.search(r"/(?:work|root|home)/\w", text), document
