"""`/livez`, `/readyz` and `/metrics`: no key needed, nothing about jobs or users in them."""

from fastapi import APIRouter, Response
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api_schemas.health import Health, Liveness, Readiness
from service.context import ContextDep
from service.health.checks import readiness

router = APIRouter(tags=["health"])


@router.head("/livez", include_in_schema=False)  # what many load balancers ask with
@router.get("/livez")
async def livez() -> Liveness:
    """The process answers. Looks at nothing else, so that no outage elsewhere restarts it."""
    return Liveness()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Readiness, "description": "The service cannot work."}})
def readyz(response: Response, context: ContextDep) -> Readiness:
    """Whether requests can be served. A broker or worker that is away only degrades: jobs then wait."""
    found = readiness(context)
    response.status_code = 503 if found.status is Health.DOWN else 200
    return found


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(context: ContextDep) -> Response:
    """Prometheus metrics of this process, and the queue as the store has it."""
    text = generate_latest(context.metrics.registry)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
