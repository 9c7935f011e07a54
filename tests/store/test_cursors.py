"""Cursors that we did not give are refused, whatever they are."""

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store import Store

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4
)


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "AAAA",
        encoded([1]),
        encoded([10**30, "job_" + "0" * 26]),
        encoded([1, "job_\x00"]),
        encoded(7),
    ],
)
def test_bad_cursors(store: Store, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        store.jobs.list(cursor=cursor)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    cursor=st.text()
    | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | _JSON.map(encoded)
)
def test_any_cursor_gives_a_page_or_a_value_error(store: Store, cursor: str) -> None:
    try:
        assert store.models.list(cursor=cursor).items == ()
    except ValueError as error:
        assert "cursor" in str(error)
