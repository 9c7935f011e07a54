"""API keys as a bearer token or, for browsers, the password of HTTP Basic; open when none is configured."""

import base64
import binascii
import hashlib
import hmac

from starlette.requests import Request

from service.context import ContextDep
from service.errors import CrossSiteError, UnauthorizedError

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="lookahead", Basic realm="lookahead"'}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


async def require_key(request: Request, context: ContextDep) -> None:
    """Refuse what carries no valid key, and writes that a browser sends for another site."""
    _refuse_cross_site(request)
    keys = context.settings.api_keys
    if keys and valid_key(request.headers.get("authorization", ""), keys) is None:
        raise UnauthorizedError("No valid API key came with the request.", headers=_CHALLENGE)


def _refuse_cross_site(request: Request) -> None:
    """A page on another site can make a browser post here, to localhost too, with stored credentials."""
    site = request.headers.get("sec-fetch-site")
    if request.method not in _SAFE_METHODS and site == "cross-site":
        raise CrossSiteError("Requests made by other web sites are refused.")


def _presented(authorization: str) -> str | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return None


def valid_key(authorization: str, keys: tuple[str, ...]) -> str | None:
    """The digest of the key in an `Authorization` header if it is one of `keys`, in hexadecimal digits.

    Constant time per key: digests of equal length are compared, and every key is looked at.
    """
    presented = _presented(authorization)
    if presented is None:
        return None
    digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass"))
    found = [hmac.compare_digest(digest.digest(), hashlib.sha256(key.encode()).digest()) for key in keys]
    return digest.hexdigest() if any(found) else None
