"""The rate limit: off unless set, per key or address, shared through Redis, open when Redis is away."""

import base64
from pathlib import Path

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from service.app import create_app
from service.limiting import caller_of, storage_url
from service.settings import ServiceSettings
from tests.servers import redis_server
from tests.service.catalogue import small_catalogue
from tests.service.conftest import MakeClient


def statuses(client: TestClient, times: int, **headers: str) -> list[int]:
    return [client.get("/v1/presets", headers=headers).status_code for _ in range(times)]


def test_without_a_limit_there_is_none(client: TestClient) -> None:
    assert statuses(client, 50) == [200] * 50
    assert "ratelimit" not in client.get("/v1/presets").headers


def test_what_is_over_the_limit_is_told_when_to_come_again(make_client: MakeClient) -> None:
    client = make_client(rate_limit_requests=3, rate_limit_seconds=3600)
    answers = [client.get("/v1/presets") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"default";q=3;w=3600'}
    refused = answers[-1]
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert refused.headers["retry-after"] == refused.headers["ratelimit"].rpartition("t=")[2]


def test_health_metrics_and_style_are_not_counted(make_client: MakeClient) -> None:
    client = make_client(rate_limit_requests=1, rate_limit_seconds=3600)
    for path in ("/livez", "/readyz", "/metrics", "/static/style.css") * 2:
        assert client.get(path).status_code == 200
    assert statuses(client, 2) == [200, 429]
    assert client.get("/livez").status_code == 200


def test_the_window_moves_on(make_client: MakeClient) -> None:
    client = make_client(rate_limit_requests=2, rate_limit_seconds=1)
    seen: list[int] = []
    while seen.count(200) < 5:  # every second lets two more through, however fast the machine is
        seen += statuses(client, 1)
    assert seen.count(200) == 5


def test_each_key_has_a_limit_of_its_own(make_client: MakeClient) -> None:
    client = make_client(rate_limit_requests=2, rate_limit_seconds=3600, api_keys=("a", "b"))
    assert statuses(client, 3, Authorization="Bearer a") == [200, 200, 429]
    assert statuses(client, 1, Authorization="Bearer b") == [200]
    basic = base64.b64encode(b"anyone:b").decode()
    assert statuses(client, 2, Authorization=f"Basic {basic}") == [200, 429]


def test_guessing_keys_is_counted_by_address(make_client: MakeClient) -> None:
    client = make_client(rate_limit_requests=3, rate_limit_seconds=3600, api_keys=("a",))
    tried = [statuses(client, 1, Authorization=f"Bearer guess-{number}")[0] for number in range(4)]
    assert tried == [401, 401, 401, 429]
    assert statuses(client, 1, Authorization="Bearer a") == [200]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("unix", "unix", True),
    ],
)
def test_an_address_is_what_one_customer_holds(one: str, other: str, same: bool) -> None:
    found = [caller_of({"type": "http", "headers": [], "client": (host, 1)}, ()) for host in (one, other)]
    assert (found[0] == found[1]) is same


def test_refusals_are_counted_by_route(make_client: MakeClient) -> None:
    client = make_client(rate_limit_requests=1, rate_limit_seconds=3600)
    statuses(client, 2)
    sample = 'lookahead_http_requests_total{method="GET",route="/v1/presets",status="429"} 1.0'
    assert sample in client.get("/metrics").text


def test_the_contract_tells_of_it_where_there_is_a_limit(make_client: MakeClient) -> None:
    documents = [make_client(rate_limit_requests=limit).get("/openapi.json").json() for limit in (9, None)]
    told = ["429" in document["paths"]["/v1/jobs"]["post"]["responses"] for document in documents]
    assert told == [True, False]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, None),
        ({"broker_url": "redis://host/0"}, "redis://host/0"),
        ({"broker_url": "rediss://host/0"}, "rediss://host/0"),
        ({"broker_url": "amqp://host"}, None),
        ({"broker_url": "amqp://host", "rate_limit_url": "redis://other"}, "redis://other"),
    ],
)
def test_counts_are_shared_where_there_is_a_redis(settings: dict[str, str], expected: str | None) -> None:
    assert storage_url(ServiceSettings(**settings)) == expected


@pytest.mark.parametrize("values", [{"rate_limit_requests": 0}, {"rate_limit_seconds": 0}])
def test_senseless_limits_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ServiceSettings(**values)  # type: ignore[arg-type]


@pytest.mark.servers
def test_several_processes_count_together_and_none_stops_with_redis(tmp_path: Path) -> None:
    with redis_server() as redis:
        settings = [
            ServiceSettings(
                data_dir=tmp_path / name,
                rate_limit_requests=4,
                rate_limit_seconds=3600,
                rate_limit_url=redis.url,
            )
            for name in ("one", "two")
        ]
        apps = [create_app(one, catalogue=small_catalogue) for one in settings]
        with TestClient(apps[0]) as one, TestClient(apps[1]) as two:
            seen = [client.get("/v1/presets").status_code for client in (one, two, one, two, one, two)]
            assert seen == [200, 200, 200, 200, 429, 429]
            redis.process.kill()
            redis.process.wait()
            # Each counts by itself now, from nothing.
            assert statuses(one, 5) == [200, 200, 200, 200, 429]
