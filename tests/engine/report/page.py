"""Reads a rendered page back, by two parsers that share nothing with the code that wrote it."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "br"}


@dataclass
class Reader(HTMLParser):
    """Collects elements and text as a browser would see them, and fails on unbalanced tags."""

    stack: list[str] = field(default_factory=list)
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    figures: list[tuple[dict[str, str | None], str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag == "data":
            self.figures.append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] == "data":
            attributes, text = self.figures[-1]
            self.figures[-1] = (attributes, text + data)


def read(page: str) -> Reader:
    """Parse as HTML; unbalanced tags fail."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.stack == []
    return reader


def as_xml(page: str) -> ET.Element:
    """Parse as XML: stricter than any browser."""
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>"))


def visible_text(page: str) -> str:
    """Everything a reader sees, style sheet and tooltips left out."""
    root = as_xml(page)
    return " ".join("".join(element.itertext()) for element in root.iter("body"))
