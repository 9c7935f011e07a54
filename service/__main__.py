"""`python -m service --host --port --data-dir`: the API under uvicorn."""

import argparse
import sys
from pathlib import Path
from types import FrameType
from typing import final

import uvicorn
from pydantic import ValidationError

from service.app import create_app
from service.context import Context
from service.settings import ServiceSettings
from store.errors import StoreError

_GRACE_SECONDS = 10


def main() -> int:
    """Serve until told to stop; 2 when the settings or the database are not usable."""
    try:
        settings = _settings()
        app = create_app(settings)
    except (ValidationError, StoreError, OSError) as error:
        sys.stderr.write(f"lookahead service: {error}\n")
        return 2
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = Server(config, app.state.context)
    server.run()
    return 0 if server.started else 2


@final
class Server(uvicorn.Server):
    """uvicorn, telling event streams to end when the process is told to stop."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._stopping = context.stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal."""
        self._stopping.set()
        super().handle_exit(sig, frame)


def _settings() -> ServiceSettings:
    """The environment's settings, with what the command line says laid over them."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--data-dir", type=Path)
    given = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    return ServiceSettings(**given)


if __name__ == "__main__":
    sys.exit(main())
