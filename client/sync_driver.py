"""Performs flows with blocking I/O."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Generic, TypeVar, final

import httpx2

from client.connection import Connection, failure, open_parts, request_arguments
from client.flow import Action, Close, Do, Emit, Flow, Open, Read, Send, Sleep
from client.uploads import CHUNK, Meter, MeteredFile, Upload
from client.wire import Call, Reply

Result = TypeVar("Result")


@final
class SyncRun(Generic[Result]):
    """One flow on its way. Iterating performs it and gives what it emits; then `result` is there."""

    result: Result

    def __init__(self, flow: Flow[Result], http: httpx2.Client, connection: Connection) -> None:
        self._flow = flow
        self._http = http
        self._server = connection.server
        self._opened: httpx2.Response | None = None
        self._pieces: Iterator[bytes] = iter(())

    def finish(self, listener: Callable[[Any], object] | None = None) -> Result:
        """Perform the flow to its end. `listener` gets what it emits."""
        for value in self:
            if listener:
                listener(value)
        return self.result

    def __iter__(self) -> Iterator[Any]:
        answer: Any = None
        error: Exception | None = None
        try:
            while True:
                action = self._flow.send(answer) if error is None else self._flow.throw(error)
                answer = error = None
                if isinstance(action, Emit):
                    yield action.value
                    continue
                try:
                    answer = self._perform(action)
                except httpx2.RequestError as lost:
                    error = failure(lost, self._server)
                except OSError as broken:
                    error = broken
        except StopIteration as end:
            self.result = end.value
        finally:
            self._flow.close()
            self._close()

    def _perform(self, action: Action) -> object:
        match action:
            case Send(call):
                return self._send(call)
            case Open(call):
                return self._open(call)
            case Read():
                return next(self._pieces, None)
            case Close():
                self._close()
            case Sleep(seconds):
                time.sleep(seconds)
            case Do(function):
                return function()
        return None

    def _send(self, call: Call) -> Reply:
        arguments = request_arguments(call)
        if call.upload is None:
            response = self._http.send(self._http.build_request(**arguments))
            return Reply(response.status_code, response.headers, response.content)
        meter = Meter(call.upload.total, call.upload.on_bytes)
        with ExitStack() as files:
            body = _body(call.upload, meter, files)
            arguments["headers"] |= body.pop("headers", {})
            response = self._http.send(self._http.build_request(**arguments, **body))
        sent = meter.sha256 if call.upload.raw else None
        return Reply(response.status_code, response.headers, response.content, sent)

    def _open(self, call: Call) -> Reply:
        self._close()
        response = self._http.send(self._http.build_request(**request_arguments(call)), stream=True)
        self._opened = response
        body = response.read() if response.status_code >= 400 else b""
        self._pieces = response.iter_raw() if response.status_code < 400 else iter(())
        return Reply(response.status_code, response.headers, body)

    def _close(self) -> None:
        if self._opened is not None:
            self._opened.close()
        self._opened = None


def _body(upload: Upload, meter: Meter, files: ExitStack) -> dict[str, Any]:
    if upload.raw is None:
        return dict(open_parts(upload, meter, files))
    file = files.enter_context(MeteredFile(upload.raw, meter))
    return {"content": _pieces(file), "headers": {"Content-Length": str(upload.total)}}


def _pieces(file: MeteredFile) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        yield data
