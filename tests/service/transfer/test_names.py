"""Names that users send, made harmless whatever they are."""

import unicodedata
from email.message import Message
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transfer.accept import prefers
from service.transfer.names import content_disposition, safe_filename


@given(st.text(max_size=400))
def test_a_safe_name_is_one_plain_part(name: str) -> None:
    safe = safe_filename(name, "model.onnx")
    assert safe
    assert "/" not in safe
    assert "\\" not in safe
    assert safe.strip(".")
    assert len(safe) <= 200
    assert not any(unicodedata.category(character)[0] == "C" for character in safe)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("net.onnx", "net.onnx"),
        ("a/b/../net.onnx", "net.onnx"),
        ("C:\\models\\net.onnx", "net.onnx"),
        ("..", "fallback"),
        ("", "fallback"),
        (None, "fallback"),
        ("a\x00\u202eb.onnx", "ab.onnx"),
        ("Netz für Größe.onnx", "Netz für Größe.onnx"),
    ],
)
def test_examples(name: str | None, safe: str) -> None:
    assert safe_filename(name, "fallback") == safe


def test_a_long_name_keeps_its_suffix() -> None:
    assert safe_filename("x" * 500 + ".onnx", "f").endswith("x.onnx")


@given(st.text(max_size=60))
def test_a_disposition_is_one_header_that_says_the_exact_name(name: str) -> None:
    safe = safe_filename(name, "model.onnx")
    header = content_disposition(safe)
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    assert unquote(header.split("filename*=UTF-8''")[1]) == safe
    plain = header.split('filename="')[1].split('"; filename*')[0]
    assert '"' not in plain
    assert "\\" not in plain


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, text/html;q=0.9", False),
        ("text/*", True),
        ("text/html;q=0", False),
        ("text/html;q=nonsense, */*;q=0.1", False),
        ("application/*;q=0.5, text/html;q=0.6", True),
        (",;=,", False),
    ],
)
def test_preference(accept: str | None, html: bool) -> None:
    assert prefers(accept, "text/html", "application/json") is html
