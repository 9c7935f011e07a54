"""`/v1/models`."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query, Request, Response

from api_schemas.ids import ModelId
from api_schemas.models import Model
from api_schemas.pages import Page
from service.context import ContextDep
from service.models.service import ModelService, receive_model, shown
from service.paging import Cursor, Limit
from service.problems import problems
from service.transfer.incoming import staging

router = APIRouter(prefix="/models", tags=["models"])

_BINARY = {"type": "string", "format": "binary"}
_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file itself, or a form with an ONNX file and its external data.",
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "additionalProperties": False,
                    "properties": {
                        "file": _BINARY,
                        "external_data": {"type": "array", "items": _BINARY, "maxItems": 500},
                    },
                },
            },
        },
    }
}


@router.post(
    "",
    status_code=201,
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}, "description": "The model."}}},
        **problems(400, 408, 413, 415, 422, 507),
    },
    openapi_extra=_UPLOAD_BODY,
)
async def upload_model(
    request: Request,
    response: Response,
    context: ContextDep,
    filename: Annotated[str | None, Query(max_length=1024, description="Name of a raw body.")] = None,
) -> Model:
    """Upload a model: ONNX, TorchScript, or a zip of one ONNX file with its external data.

    The body is streamed to disk and told apart by content, never by name. The layers, inputs and outputs
    are filled in by an inspection that a worker runs in its sandbox.
    """
    async with staging(context) as directory:
        received = await receive_model(request, context, directory, filename)
        record = await run_sync(ModelService(context).add, received)
    response.headers["Location"] = f"/v1/models/{record.id}"
    return shown(record)


@router.get("", responses=problems(422))
def list_models(context: ContextDep, limit: Limit = 50, cursor: Cursor = None) -> Page[Model]:
    """Uploaded models, newest first."""
    return ModelService(context).page(limit, cursor)


@router.get("/{model_id}", responses=problems(404, 422))
def get_model(model_id: ModelId, context: ContextDep) -> Model:
    """One model, with what inspection found in it."""
    return ModelService(context).get(model_id)


@router.delete("/{model_id}", status_code=204, response_class=Response, responses=problems(404, 409, 422))
def delete_model(model_id: ModelId, context: ContextDep) -> None:
    """Delete a model; 409 while a queued or running job uses it."""
    ModelService(context).delete(model_id)
