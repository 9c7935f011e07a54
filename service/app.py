"""Assembly of the API: settings and store in, an application out."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, Depends, FastAPI

import service.dashboard.endpoints as dashboard
import service.datasets.endpoints as datasets
import service.health.endpoints as health
import service.jobs.endpoints as jobs
import service.jobs.prune as prune
import service.jobs.validation as validation
import service.methods.endpoints as methods
import service.models.endpoints as models
from api_schemas.catalogue import Catalogue, load_catalogue
from service.auth import require_key
from service.background import running
from service.context import Context
from service.doorbell import Doorbell, make_doorbell
from service.limiting import RateLimitMiddleware, make_limiter
from service.metrics import Metrics, MetricsMiddleware
from service.openapi import install_openapi
from service.problems import install_problem_handlers
from service.routes import RouteTable
from service.settings import ServiceSettings
from service.webhooks.signing import Signer, load_secret
from store import open_store

#: Validation before jobs: `/jobs/validate` must not be taken for a job's id.
_VERSIONED = (
    models.router,
    datasets.router,
    validation.router,
    jobs.router,
    prune.router,
    methods.router,
)


def create_app(
    settings: ServiceSettings,
    *,
    doorbell: Doorbell | None = None,
    catalogue: Callable[[], Catalogue] = load_catalogue,
) -> FastAPI:
    """The application on an opened store, whose tables are brought up to date first.

    `doorbell` and `catalogue` replace what the settings and the package would give. Raises the store's
    `StoreError` when the database cannot be reached.
    """
    context = _context(settings, doorbell, catalogue)
    app = FastAPI(
        title="Lookahead",
        version=version("lookahead-compression"),
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's pages come from a content network; ours from here
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.context = context
    app.state.routes = RouteTable(
        {"/v1": _VERSIONED, "": (health.router, dashboard.router, dashboard.reference_router)}
    )
    # The last that is added is the outermost: what the limit refuses is counted too.
    app.state.limiter = limiter = make_limiter(settings)
    if limiter is not None:
        app.add_middleware(RateLimitMiddleware, limiter=limiter, keys=settings.api_keys)
    app.add_middleware(MetricsMiddleware, metrics=context.metrics, label=app.state.routes.label)
    install_problem_handlers(app)
    _include_routers(app)
    install_openapi(app, needs_key=bool(settings.api_keys), limited=settings.rate_limit_requests is not None)
    return app


def _context(
    settings: ServiceSettings, doorbell: Doorbell | None, catalogue: Callable[[], Catalogue]
) -> Context:
    store = open_store(settings)
    metrics = Metrics()
    metrics.watch_store(store)
    signer = Signer(load_secret(settings.webhook_secret, settings.data_dir))
    bell = doorbell or make_doorbell(settings.broker_url)
    return Context(settings, store, bell, metrics, signer, catalogue)


def _include_routers(app: FastAPI) -> None:
    keyed = [Depends(require_key)]
    versioned = APIRouter(prefix="/v1", dependencies=keyed)
    for router in _VERSIONED:
        versioned.include_router(router)
    app.include_router(versioned)
    app.include_router(health.router)
    app.include_router(dashboard.router, dependencies=keyed)
    app.include_router(dashboard.reference_router)
    app.mount("/static", dashboard.static_files(), name="static")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    try:
        async with running(context):
            yield
    finally:
        if app.state.limiter is not None:
            await app.state.limiter.close()
        context.doorbell.close()
        context.store.close()
