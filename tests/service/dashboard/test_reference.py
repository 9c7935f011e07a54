"""The page of the API: all of the OpenAPI document, rendered here, with nothing fetched from elsewhere."""

import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.dashboard.reference import anchor, type_words
from tests.service.conftest import MakeClient


@pytest.fixture
def page(client: TestClient) -> str:
    answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def test_nothing_comes_from_elsewhere(client: TestClient, page: str) -> None:
    sources = re.findall(r'(?:src|href|action)="([^"]*)"', page)
    assert sources
    assert [source for source in sources if not source.startswith(("/", "#", "data:,"))] == []
    assert "<script" not in page
    assert "default-src 'none'" in client.get("/docs").headers["content-security-policy"]


def test_every_operation_and_schema_is_there(client: TestClient, page: str) -> None:
    document: dict[str, Any] = client.get("/openapi.json").json()
    ids = set(re.findall(r'id="([^"]+)"', page))
    for path, item in document["paths"].items():
        for method in item:
            assert anchor(method, path) in ids
    for name, schema in document["components"]["schemas"].items():
        assert f"schema-{name}" in ids
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in page


def test_links_within_the_page_lead_somewhere_and_ids_are_distinct(page: str) -> None:
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_every_error_code_is_explained(client: TestClient, page: str) -> None:
    document: dict[str, Any] = client.get("/openapi.json").json()
    for code in document["components"]["schemas"]["ErrorCode"]["enum"]:
        assert f"<code>{code}</code>" in page


def test_it_is_open_like_the_document_it_shows(make_client: MakeClient) -> None:
    client = make_client(api_keys=("secret",))
    assert client.get("/docs").status_code == 200
    assert client.get("/ui/methods").status_code == 401
    assert client.post("/docs").json()["code"] == "invalid_recipe"


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "binary"}, "bytes"),
        ({"type": "string", "format": "date-time"}, "text (date-time)"),
        ({"type": "string", "maxLength": 64}, "text, at most 64 characters"),
        ({"type": "integer", "minimum": 1, "maximum": 200}, "whole number ≥ 1 ≤ 200"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "number > 0 < 1"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null"),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, "list of Job"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "map of text to text"),
        ({"enum": ["a", "b"]}, '"a" or "b"'),
        ({"const": "x", "type": "string"}, '"x"'),
        ({"allOf": [{"$ref": "#/components/schemas/Target"}]}, "Target"),
        ({"type": "object"}, "object"),
        ({}, "anything"),
    ],
)
def test_types_read_as_words(schema: dict[str, Any], expected: str) -> None:
    assert "".join(word.text for word in type_words(schema)) == expected
