"""Where the server is, what we show it, and how an action of a flow becomes a request of httpx2."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from ipaddress import ip_address
from typing import Any, final

import httpx2

from client.errors import LookaheadError, UnreachableError
from client.retry import RetryPolicy
from client.uploads import Meter, MeteredFile, Upload
from client.wire import READ_SECONDS, Call

DEFAULT_SERVER = "http://127.0.0.1:8000"
_CONNECT_SECONDS = 5.0


@final
@dataclass(frozen=True)
class Connection:
    """Address, key and patience. What is not given comes from LOOKAHEAD_SERVER and LOOKAHEAD_API_KEY."""

    server: str
    api_key: str | None = None
    policy: RetryPolicy = field(default_factory=RetryPolicy)

    @classmethod
    def make(
        cls, server: str | None = None, api_key: str | None = None, policy: RetryPolicy | None = None
    ) -> "Connection":
        """Fill in the environment's values. Raises `LookaheadError` for an address that is none."""
        address = server or os.environ.get("LOOKAHEAD_SERVER") or DEFAULT_SERVER
        if "://" not in address:
            address = f"http://{address}"
        try:
            url = httpx2.URL(address)
        except httpx2.InvalidURL as error:
            raise LookaheadError(f"not an address: {address!r}", code="bad_server") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise LookaheadError(f"not an http or https address: {address!r}", code="bad_server")
        key = api_key or os.environ.get("LOOKAHEAD_API_KEY") or None
        return cls(address.rstrip("/"), key, policy or RetryPolicy())

    def settings(self) -> dict[str, Any]:
        """Arguments for an httpx2 client. Proxies are for other machines, so loopback does without."""
        headers = {"User-Agent": f"lookahead-client/{_version()}", "Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return {
            "base_url": self.server,
            "headers": headers,
            "timeout": timeouts(READ_SECONDS),
            "trust_env": not _is_loopback(httpx2.URL(self.server).host),
        }


def _version() -> str:
    try:
        return version("lookahead-compression")
    except PackageNotFoundError:
        return "0"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def timeouts(read_seconds: float) -> httpx2.Timeout:
    """Five seconds to connect; the rest as the call needs."""
    return httpx2.Timeout(read_seconds, connect=_CONNECT_SECONDS, write=READ_SECONDS)


def request_arguments(call: Call) -> dict[str, Any]:
    """A call without its upload, as httpx2's `build_request` takes it."""
    arguments: dict[str, Any] = {
        "method": call.method,
        "url": call.path,
        "params": dict(call.params),
        "headers": dict(call.headers),
        "timeout": timeouts(call.read_seconds),
    }
    return arguments if call.json is None else arguments | {"json": call.json}


def open_parts(upload: Upload, meter: Meter, files: ExitStack) -> Mapping[str, Any]:
    """A multipart upload as `data` and `files`; the files stay open until `files` is closed."""
    parts = [
        (part, (name, files.enter_context(MeteredFile(path, meter)), "application/octet-stream"))
        for part, name, path in upload.parts
    ]
    return {"data": dict(upload.fields), "files": parts}


def failure(error: httpx2.RequestError, server: str) -> UnreachableError:
    """Our words for what went wrong between here and the server."""
    if isinstance(error, httpx2.ConnectTimeout):
        return UnreachableError(f"{server} did not answer within {_CONNECT_SECONDS:g} s", hint=_HINT)
    if isinstance(error, httpx2.ConnectError):
        return UnreachableError(f"cannot connect to {server}: {error}", hint=_HINT)
    if isinstance(error, httpx2.TimeoutException):
        return UnreachableError(f"{server} stopped answering ({type(error).__name__})")
    return UnreachableError(f"the connection to {server} broke: {error or type(error).__name__}")


_HINT = "is it running? `lookahead serve` starts one; --server or LOOKAHEAD_SERVER says where it is"
