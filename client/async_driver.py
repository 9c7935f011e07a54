"""Performs flows without blocking: requests on the event loop, file work in threads."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import Any, Generic, TypeVar, final

import anyio
import anyio.to_thread
import httpx2

from client.connection import Connection, failure, open_parts, request_arguments
from client.flow import Action, Close, Do, Emit, Flow, Open, Read, Send, Sleep
from client.uploads import CHUNK, Meter, MeteredFile, Upload
from client.wire import Call, Reply

Result = TypeVar("Result")


@final
class AsyncRun(Generic[Result]):
    """One flow on its way. Iterating performs it and gives what it emits; then `result` is there."""

    result: Result

    def __init__(self, flow: Flow[Result], http: httpx2.AsyncClient, connection: Connection) -> None:
        self._flow = flow
        self._http = http
        self._server = connection.server
        self._opened: httpx2.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def finish(self, listener: Callable[[Any], Any] | None = None) -> Result:
        """Perform the flow to its end. `listener` gets what it emits, and is awaited if it can be."""
        async for value in self:
            heard = listener(value) if listener else None
            if inspect.isawaitable(heard):
                await heard
        return self.result

    async def __aiter__(self) -> AsyncIterator[Any]:
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
                    answer = await self._perform(action)
                except httpx2.RequestError as lost:
                    error = failure(lost, self._server)
                except OSError as broken:
                    error = broken
        except StopIteration as end:
            self.result = end.value
        finally:
            self._flow.close()
            await self._close()

    async def _perform(self, action: Action) -> object:
        match action:
            case Send(call):
                return await self._send(call)
            case Open(call):
                return await self._open(call)
            case Read():
                return await anext(self._pieces, None) if self._pieces else None
            case Close():
                await self._close()
            case Sleep(seconds):
                await anyio.sleep(seconds)
            case Do(function):
                return await anyio.to_thread.run_sync(function)
        return None

    async def _send(self, call: Call) -> Reply:
        arguments = request_arguments(call)
        if call.upload is None:
            response = await self._http.send(self._http.build_request(**arguments))
            return Reply(response.status_code, response.headers, response.content)
        meter = Meter(call.upload.total, call.upload.on_bytes)
        with ExitStack() as files:
            body = _body(call.upload, meter, files)
            arguments["headers"] |= body.pop("headers", {})
            response = await self._http.send(self._http.build_request(**arguments, **body))
        sent = meter.sha256 if call.upload.raw else None
        return Reply(response.status_code, response.headers, response.content, sent)

    async def _open(self, call: Call) -> Reply:
        await self._close()
        request = self._http.build_request(**request_arguments(call))
        response = await self._http.send(request, stream=True)
        self._opened = response
        body = await response.aread() if response.status_code >= 400 else b""
        self._pieces = response.aiter_raw() if response.status_code < 400 else None
        return Reply(response.status_code, response.headers, body)

    async def _close(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
        self._opened = None


def _body(upload: Upload, meter: Meter, files: ExitStack) -> dict[str, Any]:
    if upload.raw is None:
        return dict(open_parts(upload, meter, files))
    file = files.enter_context(MeteredFile(upload.raw, meter))
    return {"content": _pieces(file), "headers": {"Content-Length": str(upload.total)}}


async def _pieces(file: MeteredFile) -> AsyncIterator[bytes]:
    while data := await anyio.to_thread.run_sync(file.read, CHUNK):
        yield data
