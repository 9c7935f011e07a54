"""One of several processes that fine-tune together, started by the tests as torchrun would."""

import sys
from pathlib import Path

from tests.engine.learning.test_training import Case
from worker.engine.learning.distributed import World, joined
from worker.engine.learning.optimisers import Settings

#: Few enough steps that no epoch ends: its last rows depend on the number of processes.
TOGETHER = {"steps": 15, "optimiser": Settings("sgd", 0.0), "learning_rate": 0.05, "figures": 3}


def main(folder: Path) -> None:
    """Leave the trained file and the record in the folder."""
    with joined():
        _, content, _ = Case(folder).run(**TOGETHER)
        (folder / f"rank-{World.present().rank}.pt").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
