"""Sets larger than memory: every kind is read in order and shuffled under a cap that the set does not fit."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

ROWS, SIDE = 9000, 64
CAP_MIB = 80
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """140 MiB of rows that begin with their number, compressible but no bomb."""
    pattern = np.random.default_rng(0).integers(0, 100, (SIDE, SIDE)).astype(np.float32)
    rows = np.broadcast_to(pattern, (ROWS, SIDE, SIDE)).copy()
    rows[:, 0, 0] = np.arange(ROWS)
    return rows


def stored(path: Path, values: np.ndarray) -> None:
    np.savez(path, x=values)


def deflated(path: Path, values: np.ndarray) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w") as member,
    ):
        np.lib.format.write_array(member, values)


def by_column(path: Path, values: np.ndarray) -> None:
    np.savez(path, x=np.asfortranarray(values))


def safetensors(path: Path, values: np.ndarray) -> None:
    save_file({"x": values}, path)


def parquet(path: Path, values: np.ndarray) -> None:
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), SIDE * SIDE)
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), (SIDE, SIDE)), flat)
    table = pa.table({"x": tensor})
    pq.write_table(table, path, row_group_size=1000, compression="none", use_dictionary=False)


@pytest.mark.parametrize("write", [stored, deflated, by_column, safetensors, parquet])
def test_a_set_larger_than_memory_is_read(
    tmp_path: Path, values: np.ndarray, write: Callable[[Path, np.ndarray], None]
) -> None:
    path = tmp_path / "data.npz"
    write(path, values)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.data.capped", str(path), str(CAP_MIB)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    total = f"{ROWS} {ROWS * (ROWS - 1) // 2}"
    assert done.stdout.split("\n") == [total, total, "too large", ""]
    assert list(tmp_path.iterdir()) == [path], "scratch files have no name"
