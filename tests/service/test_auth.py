"""Keys: what is closed without one, what stays open, and what browsers may not do."""

import base64

import pytest
from starlette.testclient import TestClient

from service.settings import ServiceSettings
from tests.service.conftest import MakeClient
from tests.service.files import onnx_bytes

KEY = "lk_3f9c_schlüssel"


@pytest.fixture
def closed(make_client: MakeClient) -> TestClient:
    return make_client(api_keys=("other", KEY))


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "Basic !!!", basic("", "wrong"), basic(KEY, ""), "Digest x", KEY],
)
def test_without_the_key_nothing_is_served(closed: TestClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    for path in ("/v1/models", "/v1/jobs", "/v1/methods", "/"):
        answer = closed.get(path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert "Bearer" in answer.headers["www-authenticate"]


@pytest.mark.parametrize("authorization", ["Bearer other", "bearer other", basic("anyone", KEY)])
def test_any_of_the_keys_opens(closed: TestClient, authorization: str) -> None:
    assert closed.get("/v1/models", headers={"Authorization": authorization}).status_code == 200


def test_a_refused_upload_leaves_nothing(closed: TestClient) -> None:
    assert closed.post("/v1/models", content=onnx_bytes()).status_code == 401
    assert closed.get("/v1/models", headers={"Authorization": "Bearer other"}).json()["items"] == []


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json"])
def test_health_stays_open(closed: TestClient, path: str) -> None:
    assert closed.get(path).status_code == 200


def test_browsers_may_not_write_for_other_sites(client: TestClient) -> None:
    hostile = {"Sec-Fetch-Site": "cross-site"}
    answer = client.post("/v1/models", content=onnx_bytes(), headers=hostile)
    assert (answer.status_code, answer.json()["code"]) == (403, "unauthorized")
    assert client.get("/v1/models", headers=hostile).status_code == 200
    own = {"Sec-Fetch-Site": "same-origin"}
    assert client.post("/v1/models", content=onnx_bytes(), headers=own).status_code == 201


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKAHEAD_API_KEYS", " a, b ,,")
    assert ServiceSettings().api_keys == ("a", "b")
    monkeypatch.setenv("LOOKAHEAD_API_KEYS", "")
    assert ServiceSettings().api_keys == ()
