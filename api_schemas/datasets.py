"""Uploaded data: arrays named like the model's inputs, and `targets` when there are labels."""

from datetime import datetime
from enum import StrEnum

from api_schemas.base import Answer
from api_schemas.ids import DatasetId, Sha256

TARGETS = "targets"


class DatasetFormat(StrEnum):
    """File kinds, decided by content."""

    NPZ = "npz"
    SAFETENSORS = "safetensors"
    PARQUET = "parquet"


class ArrayInfo(Answer):
    """One array; the first dimension is the row."""

    name: str
    dtype: str
    shape: list[int]


class Dataset(Answer):
    """A dataset as the API shows it."""

    id: DatasetId
    sha256: Sha256
    format: DatasetFormat
    filename: str
    size_bytes: int
    created_at: datetime
    arrays: list[ArrayInfo]
    rows: int
    has_targets: bool
