"""The pages: escaped, self-contained, and a form that works without script."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.dashboard.forms import read_options
from service.dashboard.words import duration, moment, number, percent, size
from service.errors import InvalidRequestError
from tests.service.conftest import MakeClient
from tests.service.files import digits, onnx_bytes
from tests.service.jobs.requests import body
from tests.service.workers import Hand

HOSTILE = "<script>alert(1)<img src=x>\"'&.onnx"
VOID = {"meta", "link", "input", "br"}


class Balanced(HTMLParser):
    """Fails on markup that does not close what it opens, and collects references."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.scripts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.references += [values[name] or "" for name in ("href", "src", "action") if name in values]
        if tag == "script":
            self.scripts.append(values.get("src"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    check(answer.text)
    return answer.text


def check(text: str) -> Balanced:
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert all(found.startswith(("/", "data:,")) for found in parser.references)
    assert set(parser.scripts) <= {"/static/live.js"}
    assert "style=" not in text
    assert " onclick" not in text
    return parser


@pytest.fixture
def job_id(client: TestClient, hand: Hand) -> str:
    model = client.post("/v1/models", params={"filename": HOSTILE}, content=onnx_bytes()).json()
    hand.inspect()
    document = body(model["id"]) | {"metadata": {"<b>key": "<img src=x onerror=alert(1)>"}}
    found: str = client.post("/v1/jobs", json=document).json()["id"]
    return found


def test_an_empty_list_leads_to_the_form(client: TestClient) -> None:
    assert "/ui/new" in page(client, "/")
    assert "No job is running" in page(client, "/?status=running")


def test_names_of_users_are_escaped_everywhere(client: TestClient, hand: Hand, job_id: str) -> None:
    for path in ("/", f"/ui/jobs/{job_id}"):
        text = page(client, path)
        assert "&lt;script&gt;" in text
        assert "<img" not in text
    hand.fail(hand.start())
    assert "time_limit" in page(client, f"/ui/jobs/{job_id}")


def test_a_running_job_is_followed_and_a_finished_one_is_not(
    client: TestClient, hand: Hand, job_id: str
) -> None:
    claim = hand.start()
    text = page(client, f"/ui/jobs/{job_id}")
    assert f'data-events="/v1/jobs/{job_id}/events" data-last="3"' in text
    assert check(text).scripts == ["/static/live.js"]
    hand.finish(claim)
    text = page(client, f"/ui/jobs/{job_id}")
    assert check(text).scripts == []
    assert {f"/v1/jobs/{job_id}/report", f"/v1/jobs/{job_id}/model"} <= set(check(text).references)
    assert "80.00 %" in text


def test_jobs_whose_model_was_deleted_are_still_listed(client: TestClient, hand: Hand, job_id: str) -> None:
    hand.finish(hand.start())
    model_id = client.get(f"/v1/jobs/{job_id}").json()["model_id"]
    assert client.delete(f"/v1/models/{model_id}").status_code == 204
    assert model_id in page(client, "/")


def test_older_jobs_are_a_page_away(client: TestClient, hand: Hand, job_id: str) -> None:
    document = body(client.get(f"/v1/jobs/{job_id}").json()["model_id"])
    for _ in range(50):
        assert client.post("/v1/jobs", json=document).status_code == 202
    first = page(client, "/?status=queued")
    link = re.search(r'href="(/\?status=queued&amp;cursor=[^"]+)"', first)
    assert link is not None
    assert job_id not in first
    assert job_id in page(client, link[1].replace("&amp;", "&"))


def test_methods_are_listed(client: TestClient) -> None:
    text = page(client, "/ui/methods")
    for word in ("magnitude", "taylor", "labels", "squared"):
        assert word in text


def test_the_form_prunes_without_script(client: TestClient) -> None:
    assert '<option value="lookahead" selected>' in page(client, "/ui/new")
    files = [
        ("file", ("net.onnx", onnx_bytes())),
        ("external_data", ("", b"")),
        ("dataset", ("d.npz", digits())),
    ]
    fields = {"preset": "magnitude", "sparsity": "90", "inputs": "x=1,1,8,8", "exclude": "head.* tail"}
    answer = client.post("/ui/jobs", files=files, data=fields, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    job = client.get(answer.headers["location"].replace("/ui/", "/v1/")).json()
    assert (job["recipe"]["preset"], job["recipe"]["target"]["sparsity"]) == ("magnitude", 0.9)
    assert job["recipe"]["exclude"] == ["head.*", "tail"]
    assert job["dataset_id"] is not None


def test_a_refused_form_comes_back_with_the_reason(client: TestClient) -> None:
    answer = client.post(
        "/ui/jobs", files={"file": ("m", b"<b>junk")}, data={"preset": "lookahead", "sparsity": "80"}
    )
    assert answer.status_code == 415
    assert "unsupported_format" in answer.text
    check(answer.text)


def test_a_missing_catalogue_is_told_on_the_page(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise FileNotFoundError("catalogue.json")

    client = make_client()
    monkeypatch.setattr("tests.service.conftest.small_catalogue", missing)
    broken = make_client()
    assert "cannot be read" in page(broken, "/ui/new", 503)
    answer = broken.get("/v1/methods")
    assert (answer.status_code, answer.json()["code"]) == (503, "internal")
    assert client.get("/v1/methods").status_code == 200


def test_static_files_are_ours(client: TestClient) -> None:
    for name in ("style.css", "live.js"):
        text = client.get(f"/static/{name}").text
        assert "http" not in text.replace("http-equiv", "")
        assert "innerHTML" not in text


@pytest.mark.parametrize(
    "fields",
    [
        {"sparsity": "lots"},
        {"sparsity": "100"},
        {"sparsity": "nan"},
        {"inputs": "1,2"},
        {"inputs": "x="},
        {"inputs": "=1"},
        {"inputs": "x=0"},
    ],
)
def test_what_was_typed_wrongly_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError):
        read_options({"preset": "lookahead", "sparsity": "80"} | fields)


def test_figures() -> None:
    assert [size(value) for value in (None, 0, 999, 1000, 2_345_678, 10**16)] == [
        "–", "0 B", "999 B", "1.0 kB", "2.3 MB", "10000.0 TB",
    ]  # fmt: skip
    assert [number(value) for value in (None, 1234567, 0.12345)] == ["–", "1,234,567", "0.123"]
    assert [percent(value) for value in (None, 0.8)] == ["–", "80.00 %"]


def test_times() -> None:
    from datetime import UTC, datetime, timedelta

    start = datetime(2026, 11, 20, 12, tzinfo=UTC)
    ends = [start + timedelta(seconds=seconds) for seconds in (1.26, 83, 7260)]
    assert [duration(start, end) for end in ends] == ["1.3 s", "1 min 23 s", "2 h 1 min"]
    assert duration(None, start) == duration(start, None) == moment(None) == "–"
    assert moment(start) == "2026-11-20 12:00:00"


def test_templates_never_switch_escaping_off() -> None:
    folder = Path(__file__).parents[3] / "service" / "dashboard" / "templates"
    for template in folder.glob("*.html"):
        assert "|safe" not in template.read_text().replace(" ", "")
        assert "autoescape" not in template.read_text()
