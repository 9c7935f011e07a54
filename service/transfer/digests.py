"""`Content-Digest` and `Repr-Digest` (RFC 9530) with sha-256: read on uploads, written on downloads."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import final

from starlette.datastructures import Headers

from service.errors import BadRequestError, InvalidRequestError

_HEADERS = ("content-digest", "repr-digest")
_SHA256_ITEM = re.compile(r"(?:^|,)\s*sha-256\s*=\s*([^,]*)", re.IGNORECASE)


@final
class BodyDigest:
    """Hashes a request body, but only where a header promises a digest."""

    def __init__(self, promised: Iterable[bytes]) -> None:
        self._promised = tuple(promised)
        self._sha256 = hashlib.sha256()

    @classmethod
    def from_headers(cls, headers: Headers) -> "BodyDigest":
        """The digests that the headers promise; other algorithms than sha-256 are passed over."""
        found = (match for name in _HEADERS for match in _SHA256_ITEM.findall(headers.get(name, "")))
        return cls(_decode(item) for item in found)

    def update(self, chunk: bytes) -> None:
        """Take a chunk into account."""
        if self._promised:
            self._sha256.update(chunk)

    def verify(self) -> None:
        """Raise `InvalidRequestError` when what came is not what was promised."""
        actual = self._sha256.digest()
        if not all(hmac.compare_digest(actual, promised) for promised in self._promised):
            raise InvalidRequestError("The body does not have the digest that its header promised.")


def _decode(item: str) -> bytes:
    value = item.strip()
    if len(value) >= 2 and value[0] == ":" == value[-1]:
        try:
            return base64.b64decode(value[1:-1], validate=True)
        except (binascii.Error, ValueError):
            pass
    raise BadRequestError("A digest header is malformed: sha-256=:<base 64>: is expected.")


def repr_digest(sha256: str) -> str:
    """The `Repr-Digest` value of a hexadecimal sha-256."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
