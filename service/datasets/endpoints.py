"""`/v1/datasets`."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from api_schemas.datasets import Dataset
from api_schemas.ids import DatasetId
from api_schemas.pages import Page
from service.context import ContextDep
from service.datasets.service import DatasetService, receive_dataset, shown
from service.paging import Cursor, Limit
from service.problems import problems
from service.transfer.incoming import staging

router = APIRouter(prefix="/datasets", tags=["datasets"])

_BINARY = {"type": "string", "format": "binary"}
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An .npz, .safetensors or .parquet file, or a zip of folders of images.",
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {"file": _BINARY},
                },
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}, "description": "The dataset."}}},
        **problems(400, 408, 413, 415, 422, 507),
    },
    openapi_extra=_UPLOAD_BODY,
)
async def upload_dataset(
    request: Request,
    response: Response,
    context: ContextDep,
    filename: Annotated[str | None, Query(max_length=1024, description="Name of a raw body.")] = None,
) -> Dataset:
    """Upload data: arrays named like the model's inputs, and `targets` when there are labels.

    The first dimension of every array is the row, and all arrays have as many. In a zip of images every
    folder is a class, counted from 0 in the order of their names.
    """
    async with staging(context) as directory:
        received = await receive_dataset(request, context, directory, filename)
        record = await run_sync(DatasetService(context).add, received)
    response.headers["Location"] = f"/v1/datasets/{record.id}"
    return shown(record)


@router.get("", responses=problems(422))
def list_datasets(context: ContextDep, limit: Limit = 50, cursor: Cursor = None) -> Page[Dataset]:
    """Uploaded datasets, newest first."""
    return DatasetService(context).page(limit, cursor)


@router.get("/{dataset_id}", responses=problems(404, 422))
def get_dataset(dataset_id: DatasetId, context: ContextDep) -> Dataset:
    """One dataset."""
    return DatasetService(context).get(dataset_id)


@router.delete("/{dataset_id}", status_code=204, response_class=Response, responses=problems(404, 409, 422))
def delete_dataset(dataset_id: DatasetId, context: ContextDep) -> None:
    """Delete a dataset; 409 while a queued or running job uses it."""
    DatasetService(context).delete(dataset_id)
