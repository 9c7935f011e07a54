"""The reference under `/docs`: the OpenAPI document as one plain page; nothing is fetched from elsewhere."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

#: What FastAPI writes where nothing better is said.
_FASTAPIS: Final = "Successful Response"
_REF: Final = "#/components/schemas/"
_METHODS: Final = ("get", "post", "put", "patch", "delete", "head")
_NAMES: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}
_LIMITS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
Schema = Mapping[str, Any]


@final
@dataclass(frozen=True)
class Word:
    """A piece of a type; `schema` names the one that it leads to."""

    text: str
    schema: str | None = None


@final
@dataclass(frozen=True)
class Field:
    """A parameter, or a field of an object; `place` is where a parameter stands."""

    name: str
    type: Sequence[Word]
    required: bool
    default: str | None
    description: str
    place: str = ""


@final
@dataclass(frozen=True)
class Content:
    """A body: its media type, what is in it, and examples as (title, JSON)."""

    media: str
    type: Sequence[Word]
    fields: Sequence[Field]
    examples: Sequence[tuple[str, str]]


@final
@dataclass(frozen=True)
class Answer:
    """A status and what comes with it."""

    status: str
    description: str
    contents: Sequence[Content]
    headers: Sequence[Field]


@final
@dataclass(frozen=True)
class Operation:
    """One call."""

    method: str
    path: str
    tag: str
    description: str
    parameters: Sequence[Field]
    body_description: str
    bodies: Sequence[Content]
    answers: Sequence[Answer]

    @property
    def id(self) -> str:
        """Its place on the page."""
        return anchor(self.method, self.path)

    @property
    def title(self) -> str:
        """The first sentence of its description."""
        return self.description.partition("\n")[0]


@final
@dataclass(frozen=True)
class Shape:
    """A schema of the document: an object's fields, or the values of an enumeration."""

    name: str
    description: str
    fields: Sequence[Field]
    values: Sequence[str]


def anchor(method: str, path: str) -> str:
    """The place of an operation on the page."""
    return "-".join([method.lower(), *re.findall(r"[a-z_]+", path.lower().replace("v1/", ""))])


def operations(document: Schema) -> dict[str, list[Operation]]:
    """The calls by tag, in the order of the document."""
    found: dict[str, list[Operation]] = {}
    for path, item in document["paths"].items():
        for method in (name for name in _METHODS if name in item):
            operation = _operation(method, path, item[method])
            found.setdefault(operation.tag, []).append(operation)
    return found


def shapes(document: Schema) -> list[Shape]:
    """The schemas by name."""
    return [_shape(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]


def _operation(method: str, path: str, raw: Schema) -> Operation:
    body = raw.get("requestBody", {})
    return Operation(
        method=method.upper(),
        path=path,
        tag=next(iter(raw.get("tags", [])), "other"),
        description=raw.get("description", ""),
        parameters=[_parameter(one) for one in raw.get("parameters", [])],
        body_description=body.get("description", ""),
        bodies=_contents(body),
        answers=[_answer(status, one) for status, one in sorted(raw["responses"].items())],
    )


def _parameter(raw: Schema) -> Field:
    schema = raw["schema"]
    words = list(type_words(schema))
    description = raw.get("description", schema.get("description", ""))
    return Field(raw["name"], words, raw.get("required", False), _default(schema), description, raw["in"])


def _contents(raw: Schema) -> list[Content]:
    return [_content(media, content) for media, content in raw.get("content", {}).items()]


def _content(media: str, raw: Schema) -> Content:
    schema = raw.get("schema", {})
    examples = [
        (example.get("summary", name), json.dumps(example["value"], indent=2, ensure_ascii=False))
        for name, example in raw.get("examples", {}).items()
    ]
    return Content(media, list(type_words(schema)), _fields(schema), examples)


def _answer(status: str, raw: Schema) -> Answer:
    headers = [
        Field(name, list(type_words(one.get("schema", {}))), True, None, one.get("description", ""))
        for name, one in raw.get("headers", {}).items()
    ]
    description = raw.get("description", "").replace(_FASTAPIS, "Done.")
    return Answer(status, description, _contents(raw), headers)


def _shape(name: str, schema: Schema) -> Shape:
    values = [json.dumps(value) for value in schema.get("enum", [])]
    return Shape(name, schema.get("description", ""), _fields(schema), values)


def _fields(schema: Schema) -> list[Field]:
    required = schema.get("required", [])
    return [
        Field(name, list(type_words(one)), name in required, _default(one), one.get("description", ""))
        for name, one in schema.get("properties", {}).items()
    ]


def _default(schema: Schema) -> str | None:
    """The default where it tells something: that a field left out is null goes without saying."""
    default = schema.get("default")
    return None if default is None else json.dumps(default, ensure_ascii=False)


def type_words(schema: Schema) -> Iterator[Word]:
    """A type in words, with the schemas that it names."""
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        yield Word(name, name)
    elif choices:
        yield from _joined([list(type_words(one)) for one in choices])
    elif "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        yield Word(" or ".join(json.dumps(value) for value in values))
    elif schema.get("type") == "array":
        yield Word("list of ")
        yield from type_words(schema.get("items", {}))
    elif isinstance(schema.get("additionalProperties"), Mapping):
        yield Word("map of text to ")
        yield from type_words(schema["additionalProperties"])
    else:
        yield Word(_plain(schema))


def _joined(choices: Sequence[Sequence[Word]]) -> Iterator[Word]:
    for number, choice in enumerate(choices):
        if number:
            yield Word(" or ")
        yield from choice


def _plain(schema: Schema) -> str:
    kind = schema.get("type")
    if kind is None:
        return "anything"
    if schema.get("format") == "binary":
        return "bytes"
    text = _NAMES.get(kind, str(kind))
    if "format" in schema:
        text += f" ({schema['format']})"
    for limit, sign in _LIMITS.items():
        if limit in schema:
            text += f" {sign} {schema[limit]:g}"
    return text + (f", at most {schema['maxLength']} characters" if "maxLength" in schema else "")
