"""A worker process like ``python -m worker``, but that its children run the scripted engine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.worker.workplace import scripted
from worker import __main__ as entry
from worker import supervisor


def main() -> int:
    """Patch how children are started, then be a worker."""
    original = supervisor.launch_of
    supervisor.launch_of = lambda settings: scripted(settings, original)
    return entry.main()


if __name__ == "__main__":
    sys.exit(main())
