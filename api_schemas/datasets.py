"""Uploaded data: arrays named like the model's inputs, and `targets` when there are labels; or images."""

from datetime import datetime
from enum import StrEnum

from api_schemas.base import Answer
from api_schemas.ids import DatasetId, Sha256

TARGETS = "targets"
#: An array of this name, where no input has it, says which rows are for training (0, false), for validation
#: (1, true) and for neither (2).
SPLIT = "split"
#: Arrays whose names begin so hold the validation rows of the array named after it.
VALIDATION = "validation/"
#: The array and the type under which a zip of images is shown: its pixels take the shape of the input.
IMAGES = "images"
IMAGE_DTYPE = "image"
MOST_CLASSES = 1000


class DatasetFormat(StrEnum):
    """File kinds, decided by content."""

    NPZ = "npz"
    SAFETENSORS = "safetensors"
    PARQUET = "parquet"
    IMAGES = "images"


class ArrayInfo(Answer):
    """One array; the first dimension is the row.

    `classes` names what labels mean where the file says it (the folders of images, at most 1000 of them);
    `class_count` counts them all. `minimum` and `maximum` are the range of whole-number targets of one
    number per row, where the service has looked at them.
    """

    name: str
    dtype: str
    shape: list[int]
    classes: list[str] | None = None
    class_count: int | None = None
    minimum: int | None = None
    maximum: int | None = None


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
