"""Container health of a worker: exit 0 when the worker of this container gave a sign of life within a minute.

The supervisor writes that sign while it waits and while a job runs, so a worker that hangs turns unhealthy.
"""

import socket
import sys

from store import open_store
from store.errors import StoreError
from store.settings import StoreSettings

_SECONDS = 60


def main() -> int:
    """Look into the store for a worker named after this host."""
    try:
        store = open_store(StoreSettings(), migrate=False)
        try:
            names = [worker.name for worker in store.workers.alive(_SECONDS)]
        finally:
            store.close()
    except (StoreError, OSError) as error:
        sys.stdout.write(f"the store does not answer: {error}")
        return 1
    own = [name for name in names if name.startswith(f"{socket.gethostname()}-")]
    sys.stdout.write(", ".join(own) or "no sign of life")
    return 0 if own else 1


if __name__ == "__main__":
    sys.exit(main())
