"""`/v1/methods` and `/v1/presets`: the catalogue as the engine wrote it."""

from fastapi import APIRouter

from api_schemas.catalogue import MethodList, PresetList
from service.context import ContextDep
from service.problems import problems

router = APIRouter(tags=["methods"])


@router.get("/methods", responses=problems(503))
def list_methods(context: ContextDep) -> MethodList:
    """Every part that a recipe may name, with its parameters as JSON Schema and what it needs."""
    return MethodList(items=context.catalogue().methods)


@router.get("/presets", responses=problems(503))
def list_presets(context: ContextDep) -> PresetList:
    """Every named recipe."""
    return PresetList(items=context.catalogue().presets)
