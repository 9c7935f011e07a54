"""Container health of the API: exit 0 when `/readyz` answers 200 (ok or degraded), 1 otherwise."""

import os
import sys
from http.client import HTTPConnection, HTTPException

_SECONDS = 10


def main() -> int:
    """Ask the API in this container."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("LOOKAHEAD_PORT", "8000")), timeout=_SECONDS)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        sys.stdout.write(response.read(4096).decode("utf-8", "replace"))
    except (OSError, HTTPException) as error:
        sys.stdout.write(f"no answer: {error}")
        return 1
    finally:
        connection.close()
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
