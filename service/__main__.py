"""`python -m service --host --port --data-dir`: the API under uvicorn."""

import argparse
import sys
from pathlib import Path

import uvicorn
from pydantic import ValidationError

from service.app import create_app
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
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="info",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    return 0


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
