"""Models: what an upload becomes, and how a row is shown."""

from datetime import UTC, datetime
from pathlib import Path
from typing import IO, final

from anyio.to_thread import run_sync
from starlette.requests import Request

from api_schemas.archives import ArchiveError, ArchiveLimits, check_archive
from api_schemas.formats import Sniffed, sniff_model
from api_schemas.ids import new_model_id
from api_schemas.models import Model, ModelFormat
from api_schemas.pages import Page
from service.context import Context
from service.errors import InvalidRequestError, TooLargeError, UnsupportedFormatError
from service.transfer.incoming import Received, body_chunks, publish, receive_raw
from service.transfer.multipart import Form, MultipartReceiver
from service.transfer.names import safe_filename
from service.transfer.packing import pack_model
from store.records import JobKind, ModelRecord, NewJob

MULTIPART = "multipart/form-data"
_READ = frozenset({ModelFormat.ONNX, ModelFormat.TORCHSCRIPT})
_SUFFIX = {ModelFormat.ONNX: ".onnx", ModelFormat.TORCHSCRIPT: ".pt"}


def is_multipart(request: Request) -> bool:
    """True for multipart/form-data; any other body is the file itself."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower() == MULTIPART


async def receive_model(
    request: Request, context: Context, directory: Path, filename: str | None
) -> Received:
    """The uploaded model as one file: raw body, `file` part, or `file` packed with its `external_data`."""
    chunks = body_chunks(request, context, directory)
    if not is_multipart(request):
        return await receive_raw(chunks, directory / "body", filename or "")
    receiver = MultipartReceiver(
        directory, files=("file", "external_data"), fields=(), max_field_bytes=context.settings.max_json_bytes
    )
    form = await receiver.receive(request.headers["content-type"], chunks)
    return await run_sync(model_of_form, form, directory)


def model_of_form(form: Form, directory: Path) -> Received:
    """The `file` part, packed into one archive with its `external_data` parts when there are any."""
    model, external = form.one("file"), form.all("external_data")
    if not external:
        return model
    with model.path.open("rb") as file:
        sniffed = sniff_model(file)
    if sniffed.format is not ModelFormat.ONNX or sniffed.archive_root is not None:
        raise InvalidRequestError.at("/external_data", "external data goes with a plain ONNX file only")
    packed = directory / "packed.zip"
    pack_model(model, external, packed)
    name = safe_filename(model.filename, "model.onnx").removesuffix(".onnx")
    return Received(packed, f"{name}.zip", packed.stat().st_size, sha256="")


def check_model(received: Received, context: Context) -> Sniffed:
    """Decide the format by content. Raises `UnsupportedFormatError` (415) or `TooLargeError` (413)."""
    limits = ArchiveLimits(unpacked_bytes=context.settings.max_unpacked_bytes)
    with received.path.open("rb") as file:
        sniffed = sniff_model(file)
        if sniffed.format is None:
            raise UnsupportedFormatError(_sentence(sniffed.reason or "the content is unknown"))
        if sniffed.format not in _READ:
            raise UnsupportedFormatError(
                f"{sniffed.format.value} files are recognised but not read yet.",
                hint="Export the model to ONNX with torch.onnx.export.",
            )
        file.seek(0)
        if file.read(2) == b"PK":
            check_zip(file, limits)
    return sniffed


def check_zip(file: IO[bytes], limits: ArchiveLimits) -> None:
    """Preflight of an archive. Raises `TooLargeError` or `UnsupportedFormatError` with the reason."""
    try:
        check_archive(file, limits)
    except ArchiveError as error:
        kind = TooLargeError if error.too_large else UnsupportedFormatError
        raise kind(_sentence(error.reason)) from error


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."


@final
class ModelService:
    """Adds, shows and deletes models. Every method blocks: call from a thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def add(self, received: Received) -> ModelRecord:
        """Publish the file, add the row, and queue its inspection unless the content is known."""
        sniffed = check_model(received, self._context)
        assert sniffed.format is not None  # noqa: S101 (check_model refuses it)
        fallback = f"model{'.zip' if sniffed.archive_root else _SUFFIX[sniffed.format]}"
        filename = safe_filename(received.filename, fallback)
        blob = publish(self._store.blobs, received, filename)
        record = self._store.models.add(
            ModelRecord(
                new_model_id(), blob.sha256, sniffed.format, filename, blob.size_bytes, datetime.now(UTC)
            )
        )
        if record.inspection is None and record.inspection_error is None:
            job = self._store.jobs.submit(self._inspection_of(record)).job
            self._context.doorbell.ring(job.id)
        return record

    def _inspection_of(self, record: ModelRecord) -> NewJob:
        return NewJob(JobKind.INSPECT, record.id, max_attempts=self._context.settings.max_attempts)

    def get(self, model_id: str) -> Model:
        """The model as the API shows it."""
        return shown(self._store.models.get(model_id))

    def page(self, limit: int, cursor: str | None) -> Page[Model]:
        """One page, newest first."""
        try:
            found = self._store.models.list(limit, cursor)
        except ValueError as error:
            raise InvalidRequestError.at("/cursor", "this is not a cursor of ours") from error
        return Page[Model](items=[shown(record) for record in found.items], next_cursor=found.next_cursor)

    def delete(self, model_id: str) -> None:
        """Delete it. Raises the store's `ConflictError` while a job uses it."""
        self._store.models.delete(model_id)


def shown(record: ModelRecord) -> Model:
    """A row as the API shows it, with what inspection found."""
    found = record.inspection
    inspection = found.model_dump(exclude={"format"}) if found else {}
    return Model(
        id=record.id,
        sha256=record.sha256,
        format=record.format,
        filename=record.filename,
        size_bytes=record.size_bytes,
        created_at=record.created_at,
        inspected=found is not None,
        inspection_error=record.inspection_error,
        **inspection,
    )
