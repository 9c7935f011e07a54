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
    if keys and not _matches(_presented(request.headers.get("authorization", "")), keys):
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


def _matches(presented: str | None, keys: tuple[str, ...]) -> bool:
    """Constant time per key: digests of equal length are compared, and every key is looked at."""
    if presented is None:
        return False
    digest = hashlib.sha256(presented.encode("utf-8", "surrogatepass")).digest()
    found = [hmac.compare_digest(digest, hashlib.sha256(key.encode()).digest()) for key in keys]
    return any(found)
