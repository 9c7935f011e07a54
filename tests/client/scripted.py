"""A real HTTP server on a free port that answers as a test scripts it, cuts connections included."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answered:
    """What to answer. With `cut` the connection is reset once so many bytes of the body have gone out."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    pause: float = 0.0
    hold: float = 0.0


def answer(body: Any, status: int = 200, **headers: str) -> Answered:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answered(status, {"Content-Type": "application/json"} | _named(headers), data)


def problem(status: int, code: str, detail: str = "no", **headers: str) -> Answered:
    document = {"title": "t", "status": status, "detail": detail, "code": code, "hint": "do better"}
    kind = {"Content-Type": "application/problem+json"}
    return Answered(status, kind | _named(headers), json.dumps(document).encode())


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def stream(*messages: str, cut: bool = False) -> Answered:
    body = "".join(messages).encode()
    return Answered(200, {"Content-Type": "text/event-stream"}, body, cut=len(body) if cut else None)


Script = Callable[[Asked], Answered]


class ScriptedServer(ThreadingHTTPServer):
    """Remembers what it was asked."""

    daemon_threads = True

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[Asked] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self, method: str | None = None) -> list[str]:
        return [asked.path for asked in self.asked if method in (None, asked.method)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None: ...

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _serve(self) -> None:
        server = cast(ScriptedServer, self.server)
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, address.path, query, headers, self._body())
        server.asked.append(asked)
        self._reply(server.script(asked))

    def _reply(self, reply: Answered) -> None:
        time.sleep(reply.pause)
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers and reply.status != 204:
            if reply.headers.get("Content-Type") == "text/event-stream":
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body if reply.cut is None else reply.body[: reply.cut])
        self.wfile.flush()
        time.sleep(reply.hold)
        if reply.cut is not None:
            self._reset()
        self.close_connection = (
            self.close_connection or reply.headers.get("Content-Type") == "text/event-stream"
        )

    def _reset(self) -> None:
        time.sleep(0.05)  # let the bytes before the cut get through
        with suppress(OSError):
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
            )
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve


@contextmanager
def serving(script: Script) -> Iterator[ScriptedServer]:
    with ScriptedServer(script) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
