"""Uploaded models and what inspection found in them."""

from datetime import datetime
from enum import StrEnum

from api_schemas.base import Answer
from api_schemas.errors import JobError
from api_schemas.ids import ModelId, Sha256


class ModelFormat(StrEnum):
    """File kinds, decided by content and never by name."""

    ONNX = "onnx"
    TORCHSCRIPT = "torchscript"
    PT2 = "pt2"


class TensorInfo(Answer):
    """A model input or output. A dimension is a number, a name, or null when nothing is known of it."""

    name: str
    dtype: str
    shape: list[int | str | None] | None = None


class LayerInfo(Answer):
    """One weight tensor and the operator that uses it; `reason` says why it cannot be pruned."""

    name: str
    op: str
    weight: str
    shape: list[int]
    parameters: int
    zeros: int = 0
    prunable: bool
    reason: str | None = None


class ChannelGroup(Answer):
    """Channels that can only go together, over all the layers that make them, named after the first.

    With a `frozen_reason` none of the layer's channels can go.
    """

    name: str
    channels: int
    layers: list[str]
    frozen_reason: str | None = None


class Inspection(Answer):
    """What the sandboxed child read in a file."""

    format: ModelFormat
    opset: int | None = None
    producer: str | None = None
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    parameters: int
    macs: int | None = None
    layers: list[LayerInfo] = []
    groups: list[ChannelGroup] = []
    warnings: list[str] = []


class Model(Answer):
    """A model as the API shows it; the fields of `Inspection` are null until it has been inspected."""

    id: ModelId
    sha256: Sha256
    format: ModelFormat
    filename: str
    size_bytes: int
    created_at: datetime
    inspected: bool = False
    inspection_error: JobError | None = None
    opset: int | None = None
    producer: str | None = None
    inputs: list[TensorInfo] | None = None
    outputs: list[TensorInfo] | None = None
    parameters: int | None = None
    macs: int | None = None
    layers: list[LayerInfo] | None = None
    groups: list[ChannelGroup] | None = None
    warnings: list[str] | None = None
