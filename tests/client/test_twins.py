"""The two clients are alike, and know where to go."""

import inspect
from typing import Any

import pytest

import client
from client import AsyncLookahead, Lookahead, LookaheadError
from client.connection import Connection


def _public(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
    methods = {name: member for name, member in vars(kind).items() if callable(member) and name[0] != "_"}
    return {
        name: [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]
        for name, member in methods.items()
    }


def test_same_methods_with_the_same_parameters() -> None:
    assert _public(Lookahead) == _public(AsyncLookahead)


def test_the_public_names() -> None:
    assert set(client.__all__) == {name for name in vars(client) if name[0].isupper()}


def test_settings_come_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Connection.make().server == "http://127.0.0.1:8000"
    monkeypatch.setenv("LOOKAHEAD_SERVER", "https://a.test/")
    monkeypatch.setenv("LOOKAHEAD_API_KEY", "k")
    assert (Connection.make().server, Connection.make().api_key) == ("https://a.test", "k")
    assert (Connection.make("b.test:1", "m").server, Connection.make("b", "m").api_key) == (
        "http://b.test:1",
        "m",
    )


@pytest.mark.parametrize("address", ["ftp://x", "http://", "http://a:b"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(LookaheadError, match="address"):
        Connection.make(address)


@pytest.mark.parametrize(
    ("address", "trusts"),
    [
        ("http://127.0.0.1:1", False),
        ("http://localhost", False),
        ("http://[::1]:2", False),
        ("http://a.test", True),
    ],
)
def test_loopback_knows_no_proxies(address: str, trusts: bool) -> None:
    assert Connection.make(address).settings()["trust_env"] is trusts


def test_no_key_no_header() -> None:
    assert "Authorization" not in Connection.make("a").settings()["headers"]
