"""The OpenAPI document: FastAPI's, with our problem documents in place of its validation errors."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api_schemas.errors import ERRORS, Problem
from service.problems import problems

_METHODS = frozenset({"get", "post", "put", "patch", "delete", "head"})
_REF = "#/components/schemas/{model}"


def install_openapi(app: FastAPI, *, needs_key: bool, limited: bool) -> None:
    """Make `app.openapi()` build, once, the document that tells all that the service answers."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app, needs_key=needs_key, limited=limited)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def build(app: FastAPI, *, needs_key: bool, limited: bool = False) -> dict[str, Any]:
    """The document."""
    document = get_openapi(
        title=app.title, version=app.version, description=_description(), routes=app.routes
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _, definitions = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas.update(definitions["$defs"])
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method in _METHODS:
                versioned = path.startswith("/v1")
                _complete(operation, private=needs_key and versioned, limited=limited and versioned)
    if needs_key:
        document["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "An API key."}
        }
    return document


def _complete(operation: dict[str, Any], *, private: bool, limited: bool) -> None:
    """What is true of every operation: faults of ours, and keys and a rate limit where there are any."""
    common = [status for status, holds in ((401, private), (429, limited)) if holds]
    for status, response in problems(*common, 500, 503).items():
        operation["responses"].setdefault(str(status), response)
    if private:
        operation["security"] = [{"key": []}]


def _description() -> str:
    codes = "\n".join(f"| `{code.value}` | {status} | {text} |" for code, (status, _, text) in ERRORS.items())
    return (
        "Prunes ONNX and TorchScript models and proves what it did.\n\n"
        "Every error is an RFC 9457 problem document with a stable `code`:\n\n"
        f"| code | status | meaning |\n|---|---|---|\n{codes}\n"
    )
