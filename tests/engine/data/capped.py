"""``python -m tests.engine.data.capped FILE MIB``: reads a dataset with so much address space to spare.

Writes the rows and the sum of the first column in a shuffled pass and in file order, and then whether
reading the column at once fails, as it must for the cap to mean anything.
"""

import os
import resource
import sys
from pathlib import Path

from api_schemas.models import TensorInfo
from worker.engine.data import Batch, load_dataset


def main(path: str, mib: str) -> None:
    """Run under the cap, which counts from here on."""
    inputs = [TensorInfo(name="x", dtype="float32", shape=["n", 64, 64])]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + int(mib) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    dataset = load_dataset(Path(path), inputs)
    for seed in (0, None):
        rows, total = 0, 0.0
        for batch in dataset.batches(64, seed=seed):
            rows, total = rows + batch.rows, total + _first(batch)
        sys.stdout.write(f"{rows} {total:.0f}\n")
    column = dataset.bindings[0].column
    try:
        sys.stdout.write("held\n" if column is not None and column.read().size else "empty\n")
    except MemoryError:
        sys.stdout.write("too large\n")


def _first(batch: Batch) -> float:
    return float(batch.feeds["x"][:, 0, 0].astype("float64").sum())


if __name__ == "__main__":
    main(*sys.argv[1:])
