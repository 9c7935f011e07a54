"""Datasets: what an upload becomes, and how a row is shown."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, final

from starlette.requests import Request

from api_schemas.datasets import TARGETS, ArrayInfo, Dataset, DatasetFormat
from api_schemas.ids import new_dataset_id
from api_schemas.pages import Page
from service.context import Context
from service.datasets.arrays import count_rows, not_a_dataset
from service.datasets.parquet import read_parquet
from service.datasets.safetensors import looks_like_safetensors, read_safetensors
from service.datasets.zipped import read_zip
from service.errors import InvalidRequestError
from service.models.service import is_multipart
from service.transfer.incoming import Received, body_chunks, publish, receive_raw
from service.transfer.multipart import MultipartReceiver
from service.transfer.names import safe_filename
from store.records import DatasetRecord

_SUFFIXES: Final = {DatasetFormat.IMAGES: "zip"}


async def receive_dataset(
    request: Request, context: Context, directory: Path, filename: str | None
) -> Received:
    """The uploaded file: the raw body, or the `file` part of a form."""
    chunks = body_chunks(request, context, directory)
    if not is_multipart(request):
        return await receive_raw(chunks, directory / "body", filename or "")
    receiver = MultipartReceiver(
        directory, files=("file",), fields=(), max_field_bytes=context.settings.max_json_bytes
    )
    return (await receiver.receive(request.headers["content-type"], chunks)).one("file")


def read_arrays(path: Path, max_unpacked_bytes: int) -> tuple[DatasetFormat, list[ArrayInfo]]:
    """Decide the format by content and read the arrays' headers. Refuses everything else with a reason."""
    with path.open("rb") as file:
        head = file.read(9)
    if head.startswith(b"PK\x03\x04"):
        return read_zip(path, max_unpacked_bytes)
    if head.startswith(b"PAR1"):
        return DatasetFormat.PARQUET, read_parquet(path)
    if looks_like_safetensors(head, path.stat().st_size):
        return DatasetFormat.SAFETENSORS, read_safetensors(path)
    if not head:
        return not_a_dataset("it is empty")
    return not_a_dataset("its content is neither .npz, .safetensors, .parquet nor a zip of images")


@final
class DatasetService:
    """Adds, shows and deletes datasets. Every method blocks: call from a thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def add(self, received: Received) -> DatasetRecord:
        """Check the headers, publish the file and add the row."""
        kind, arrays = read_arrays(received.path, self._context.settings.max_unpacked_bytes)
        rows = count_rows(arrays)
        filename = safe_filename(received.filename, f"dataset.{_SUFFIXES.get(kind, kind.value)}")
        blob = publish(self._store.blobs, received, filename)
        return self._store.datasets.add(
            DatasetRecord(
                id=new_dataset_id(),
                sha256=blob.sha256,
                format=kind,
                filename=filename,
                size_bytes=blob.size_bytes,
                created_at=datetime.now(UTC),
                arrays=tuple(arrays),
                rows=rows,
                has_targets=any(array.name == TARGETS for array in arrays),
            )
        )

    def get(self, dataset_id: str) -> Dataset:
        """The dataset as the API shows it."""
        return shown(self._store.datasets.get(dataset_id))

    def page(self, limit: int, cursor: str | None) -> Page[Dataset]:
        """One page, newest first."""
        try:
            found = self._store.datasets.list(limit, cursor)
        except ValueError as error:
            raise InvalidRequestError.at("/cursor", "this is not a cursor of ours") from error
        return Page[Dataset](items=[shown(record) for record in found.items], next_cursor=found.next_cursor)

    def delete(self, dataset_id: str) -> None:
        """Delete it. Raises the store's `ConflictError` while a job uses it."""
        self._store.datasets.delete(dataset_id)


def shown(record: DatasetRecord) -> Dataset:
    """A row as the API shows it."""
    return Dataset(
        id=record.id,
        sha256=record.sha256,
        format=record.format,
        filename=record.filename,
        size_bytes=record.size_bytes,
        created_at=record.created_at,
        arrays=list(record.arrays),
        rows=record.rows,
        has_targets=record.has_targets,
    )
