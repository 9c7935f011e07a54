"""What every file format offers: a structure to reason about, weights to read and write, a way to run it.

The structure is always an onnx-ir model, whatever the file was; its initializers and Constant outputs
are the handles of the weights.
"""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from api_schemas.jobs import InputSpecs
from api_schemas.models import ModelFormat, TensorInfo
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.edits import Edit
from worker.engine.formats.trainable import Trainable

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class LoadOptions:
    """How to load: input shapes the file may not know, where to put extracted files, size budget in bytes."""

    inputs: InputSpecs = field(default_factory=dict)
    scratch: Path | None = None
    logical_bytes: int = 64 * 2**30
    device: str = "cpu"


class Network(abc.ABC):
    """A loaded model file. Reading copies no more than the weight read; writing keeps shape and dtype."""

    format: ModelFormat
    #: The model file itself; of a zip upload the ONNX file inside, its data files beside it.
    file: Path
    #: The graph. For a format without one (TorchScript that cannot be exported) it is synthesised: one
    #: disconnected node per layer, and `structure_warning` says why.
    structure: ir.Model
    structure_warning: str | None
    #: True when the file does not say its input shapes and `LoadOptions.inputs` did not either.
    needs_inputs: bool = False
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    opset: int | None
    producer: str | None
    #: File name ending that the saved file has (".onnx", ".pt", ".zip").
    suffix: str

    @abc.abstractmethod
    def read(self, value: ir.Value) -> Array:
        """The tensor behind an initializer or a Constant's output, in its own dtype, read-only."""

    @abc.abstractmethod
    def write(self, value: ir.Value, array: Array) -> None:
        """Replace that tensor by one of the same shape and dtype; visible to `read` and `save`."""

    @abc.abstractmethod
    def save(self, path: Path) -> None:
        """Write the file in the format it came in, all else as it was; the same bytes for the same edits."""

    def rewritten(self, edits: Sequence[Edit], directory: Path) -> "Network":
        """The network after edits of its graph, loaded again from a new file in `directory`.

        Raises InvalidRecipeError where the format cannot be edited.
        """
        raise InvalidRecipeError(
            f"channels cannot be taken out of a {self.format.value} file here",
            hint='use "apply": {"name": "mask"}, or upload the model as ONNX',
        )

    def refusal(self, edits: Sequence[Edit]) -> str | None:
        """Why edits cannot be carried out, where that shows only by trying; None where nothing is known."""
        del edits
        return None

    def narrowed(self, statistics: Sequence[Edit], cuts: Sequence[Edit], directory: Path) -> "Network":
        """The full network as written now, in which statistics over channels are taken over those that stay:
        what a network without the cuts is held to. A format whose graph is in the file goes by `statistics`
        (a choice of indices before and behind operators of `structure`), one that is code by the cuts.

        Raises InvalidRecipeError where the format cannot be edited.
        """
        return self.rewritten(statistics, directory) if statistics else self

    def trainable(self, device: str = "cpu") -> Trainable:
        """The network as a torch module on that device. Raises InvalidRecipeError that names what torch
        cannot follow."""
        raise InvalidRecipeError(f"a {self.format.value} file cannot be trained here")

    def writable(self, value: ir.Value) -> bool:
        """False when the value is no stored tensor of the file (computed while exporting, say)."""
        return value.const_value is not None


class Runner(abc.ABC):
    """A model file made ready to run, as a user of the file would run it."""

    runtime: str
    #: What to know of how the runtime takes the file; empty where nothing is out of the ordinary.
    remark: str = ""
    device: str
    threads: int
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    @abc.abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """Outputs in order. Raises `ModelNotRunnableError` when the runtime fails."""


class Format(abc.ABC):
    """One kind of file. A final subclass registers itself in `formats.FORMATS` under its `ModelFormat`."""

    format: ModelFormat

    @abc.abstractmethod
    def load(self, path: Path, options: LoadOptions) -> Network:
        """Read the file. Raises errors of `worker.engine.errors` only."""

    @abc.abstractmethod
    def runner(self, path: Path, options: LoadOptions, threads: int) -> Runner:
        """Make the file ready to run."""
