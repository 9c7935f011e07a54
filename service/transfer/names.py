"""File names that users send, made harmless."""

import re
import unicodedata
from urllib.parse import quote

_LONGEST = 200


def safe_filename(name: str | None, fallback: str) -> str:
    """The last part of a path without control or formatting characters; `fallback` when nothing is left."""
    last = re.split(r"[/\\]", name or "")[-1]
    kept = "".join(character for character in last if unicodedata.category(character)[0] != "C").strip()
    if kept.strip(".") == "":
        return fallback
    if len(kept) <= _LONGEST:
        return kept
    stem, dot, suffix = kept.rpartition(".")
    return f"{stem[: _LONGEST - 17]}{dot}{suffix[:16]}" if dot else kept[:_LONGEST]


def content_disposition(filename: str) -> str:
    """`attachment` with an ASCII name for old clients and the exact one in UTF-8 (RFC 6266, RFC 8187)."""
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    ascii_name = re.sub(r"[^\w .()+\-,=@]", "_", plain).strip() or "download"
    exact = quote(filename.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{exact}"
