"""What every endpoint works with: settings, store, doorbell, catalogue and metrics, made once per process."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, final

from fastapi import Depends
from starlette.requests import Request

from api_schemas.catalogue import Catalogue
from service.doorbell import Doorbell
from service.errors import CatalogueError
from service.metrics import Metrics
from service.settings import ServiceSettings
from service.webhooks.signing import Signer
from store import Store


@final
@dataclass(frozen=True)
class Context:
    """The process's long-lived things."""

    settings: ServiceSettings
    store: Store
    doorbell: Doorbell
    metrics: Metrics
    signer: Signer
    load_catalogue: Callable[[], Catalogue]
    #: Set when the process is told to stop: streams and waits then end instead of being cut.
    stopping: threading.Event = field(default_factory=threading.Event)

    def catalogue(self) -> Catalogue:
        """The method catalogue. Raises `CatalogueError` (503) where it is missing or damaged."""
        try:
            return self.load_catalogue()
        except (OSError, ValueError) as error:
            raise CatalogueError("The method catalogue cannot be read.") from error


async def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


ContextDep = Annotated[Context, Depends(_context)]
