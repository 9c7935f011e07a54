"""multipart/form-data streamed part by part to disk; nothing is spooled and nothing large is held."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import BadRequestError, InvalidRequestError, TooLargeError
from service.transfer.incoming import FileSink, Received

_MOST_PARTS = 1000
_Event = tuple[str, bytes]


@final
@dataclass(frozen=True)
class Form:
    """What came: files in order of arrival under their part's name, and plain fields."""

    files: tuple[tuple[str, Received], ...]
    fields: Mapping[str, str]

    def all(self, name: str) -> tuple[Received, ...]:
        """Every file that came under that name."""
        return tuple(received for part, received in self.files if part == name)

    def one(self, name: str) -> Received:
        """The one file of that name. Raises `InvalidRequestError` when there is none, or several."""
        found = self.all(name)
        if len(found) != 1:
            raise InvalidRequestError.at(
                f"/{name}", f"exactly one part named `{name}` is needed; {len(found)} came"
            )
        return found[0]

    def at_most_one(self, name: str) -> Received | None:
        """The file of that name, if there is one."""
        return self.one(name) if self.all(name) else None


@final
@dataclass
class _Part:
    name: str = ""
    filename: str = ""
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    disposition: bytes = b""
    sink: FileSink | None = None
    text: bytearray = field(default_factory=bytearray)


@final
class MultipartReceiver:
    """Receives one form whose file parts and text fields are known beforehand; other parts are refused."""

    def __init__(
        self, directory: Path, *, files: Collection[str], fields: Collection[str], max_field_bytes: int
    ) -> None:
        self._directory = directory
        self._file_names = frozenset(files)
        self._field_names = frozenset(fields)
        self._max_field_bytes = max_field_bytes
        self._events: list[_Event] = []
        self._part = _Part()
        self._parts = 0
        self._ended = False
        self._files: list[tuple[str, Received]] = []
        self._fields: dict[str, str] = {}

    async def receive(self, content_type: str, chunks: AsyncIterator[bytes]) -> Form:
        """Read the body to its end.

        Raises `BadRequestError` for a malformed body, `InvalidRequestError` for a part with an unknown
        name, `TooLargeError` for a field over the limit.
        """
        parser = self._parser(content_type)
        try:
            async for chunk in chunks:
                parser.write(chunk)
                await self._handle_events()
        except FormParserError as error:
            raise BadRequestError("The multipart body is malformed.") from error
        finally:
            if self._part.sink is not None:
                self._part.sink.close()
        if not self._ended:
            raise BadRequestError("The multipart body ends before its closing boundary.")
        return Form(tuple(self._files), self._fields)

    def _parser(self, content_type: str) -> MultipartParser:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise BadRequestError("multipart/form-data without a boundary.")

        def note(kind: str) -> Callable[[], None]:
            return lambda: self._events.append((kind, b""))

        def data(kind: str) -> Callable[[bytes, int, int], None]:
            return lambda block, start, end: self._events.append((kind, block[start:end]))

        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_begin": note("begin"),
                    "on_header_field": data("header_field"),
                    "on_header_value": data("header_value"),
                    "on_header_end": note("header_end"),
                    "on_headers_finished": note("headers_finished"),
                    "on_part_data": data("data"),
                    "on_part_end": note("part_end"),
                    "on_end": note("end"),
                },
            )
        except FormParserError as error:
            raise BadRequestError("The multipart boundary is not acceptable.") from error

    async def _handle_events(self) -> None:
        """The parser's callbacks cannot await, so they note events that are worked off here."""
        events, self._events = self._events, []
        for kind, data in events:
            if kind == "data":
                await self._take(data)
            elif kind == "part_end":
                await self._finish_part()
            else:
                self._take_header(kind, data)

    def _take_header(self, kind: str, data: bytes) -> None:
        part = self._part
        if kind == "begin":
            self._begin_part()
        elif kind == "header_field":
            part.header += data
        elif kind == "header_value":
            part.value += data
        elif kind == "header_end":
            if bytes(part.header).lower() == b"content-disposition":
                part.disposition = bytes(part.value)
            part.header, part.value = bytearray(), bytearray()
        elif kind == "headers_finished":
            self._open_part()
        elif kind == "end":
            self._ended = True

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise TooLargeError(f"The form has more than {_MOST_PARTS} parts.")
        self._part = _Part()

    def _open_part(self) -> None:
        part = self._part
        _, options = parse_options_header(part.disposition)
        part.name = _text(options.get(b"name", b""))
        part.filename = _text(options.get(b"filename", b""))
        if part.name in self._file_names:
            part.sink = FileSink(self._directory / f"part-{self._parts}")
        elif part.name not in self._field_names:
            known = ", ".join(sorted(self._file_names | self._field_names))
            raise InvalidRequestError(f"The form has a part named {part.name[:100]!r}; known are {known}.")

    async def _take(self, data: bytes) -> None:
        part = self._part
        if part.sink is not None:
            await part.sink.write(data)
            return
        part.text += data
        if len(part.text) > self._max_field_bytes:
            raise TooLargeError(f"The field {part.name!r} is over {self._max_field_bytes:,} bytes.")

    async def _finish_part(self) -> None:
        part, self._part = self._part, _Part()
        if part.sink is not None:
            self._files.append((part.name, await part.sink.finish(part.filename)))
        elif part.name in self._fields:
            raise InvalidRequestError.at(f"/{part.name}", f"the part `{part.name}` came twice")
        else:
            self._fields[part.name] = _text(bytes(part.text))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
