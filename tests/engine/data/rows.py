"""A small labelled dataset, written as a file of every kind."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, settings
from safetensors.numpy import save_file

from api_schemas.models import TensorInfo
from worker.engine.data import Dataset

ROWS = 10
X = TensorInfo(name="x", dtype="float32", shape=["batch", 3, 2])
quick = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def arrays() -> dict[str, np.ndarray]:
    """A small labelled dataset."""
    values = np.random.default_rng(0).normal(size=(ROWS, 3, 2)).astype(np.float32)
    return {"x": values, "targets": np.arange(ROWS, dtype=np.int64) % 3}


def save(path: Path, content: dict[str, np.ndarray], kind: str) -> Path:
    """Write a dataset file of a kind."""
    if kind == "npz":
        np.savez(path, **content)
        return path.with_suffix(".npz") if path.suffix != ".npz" else path
    if kind == "npz compressed":
        np.savez_compressed(path, **content)
        return path.with_suffix(".npz") if path.suffix != ".npz" else path
    if kind == "safetensors":
        save_file(content, path)
        return path
    pq.write_table(
        pa.table({name: value.tolist() for name, value in content.items()}, parquet_schema(content)), path
    )
    return path


def parquet_schema(content: dict[str, np.ndarray]) -> pa.Schema:
    """Lists of lists of the arrays' own number types."""
    fields = []
    for name, value in content.items():
        kind = pa.from_numpy_dtype(value.dtype)
        for _ in range(value.ndim - 1):
            kind = pa.list_(kind)
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


KINDS = ["npz", "npz compressed", "safetensors", "parquet"]


def gathered(dataset: Dataset, size: int, **options: int) -> dict[str, np.ndarray]:
    """All batches joined."""
    batches = list(dataset.batches(size, **options))
    joined = {name: np.concatenate([batch.feeds[name] for batch in batches]) for name in batches[0].feeds}
    if batches[0].targets is not None:
        joined["targets"] = np.concatenate([batch.targets for batch in batches if batch.targets is not None])
    assert sum(batch.rows for batch in batches) == len(next(iter(joined.values())))
    return joined
