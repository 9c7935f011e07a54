"""TorchScript files. The graph comes from torch's exporter; tensors are read and written in the archive
itself, so that a pruned file is the uploaded one but for the bytes of its weights."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass

from api_schemas.models import ModelFormat, TensorInfo
from worker.engine.errors import InvalidModelError, InvalidRecipeError
from worker.engine.formats.base import Array, Format, LoadOptions, Network, Runner
from worker.engine.formats.edits import Edit, SetOperand
from worker.engine.formats.memory import Shelf, raise_if_memory
from worker.engine.formats.onnx import plain_constant, stored_tensor, structure_of
from worker.engine.formats.registry import register
from worker.engine.formats.torch_archive import TensorPlace, TorchArchive
from worker.engine.formats.torch_binding import bind, in_use
from worker.engine.formats.torch_export import export
from worker.engine.formats.torch_layers import Layer, LayerFinder, add_layers
from worker.engine.formats.torch_layers import structure_of as structure_of_layers
from worker.engine.formats.torch_module import (
    Calls,
    TorchscriptRunner,
    first_line,
    load_module,
    output_names,
)
from worker.engine.formats.torch_names import TensorNames
from worker.engine.formats.torch_record import record
from worker.engine.formats.torch_recurrent import restore_parameters
from worker.engine.formats.torch_rewrite import follow, narrowed, rewrite
from worker.engine.formats.torch_signature import Argument, arguments_of, examples, flattened
from worker.engine.formats.torch_trainable import TorchscriptTrainable, tie
from worker.engine.formats.torch_unfused import write_out
from worker.engine.formats.trainable import Trainable

_APART = "so its layers are seen without their neighbours: they are scored as if these were all alike"
_COMPUTED = (
    "the weights are computed from others whenever the model runs (weight_norm, spectral_norm): take that "
    "off before saving, with torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm"
)
_PACKED = "the weights are packed inside quantised operators, where they cannot be pruned"


@dataclass(frozen=True)
class _Trial:
    """What a first run of the module told: examples that work, and what it gave."""

    examples: tuple[Any, ...]
    outputs: tuple[Array, ...]


@final
class TorchscriptNetwork(Network):
    """A loaded TorchScript archive. Edits are kept apart until `save`; the upload itself is never changed."""

    format = ModelFormat.TORCHSCRIPT
    suffix = ".pt"
    opset = None
    _stored: dict[ir.Value, str]

    def __init__(self, path: Path, options: LoadOptions) -> None:
        self.file = path
        self._archive = TorchArchive(path, options.logical_bytes)
        self._records = Shelf[str](options.scratch)
        self._scratch, self._options = options.scratch, options
        self.producer = "torch"
        with tempfile.TemporaryDirectory(prefix="torch-", dir=options.scratch) as scratch:
            marked = self._archive.marked(Path(scratch) / "marked.pt")
            self._analyse(load_module(Path(scratch) / "marked.pt", "cpu"), marked, options)

    def _analyse(self, module: torch.jit.ScriptModule, marked: TorchArchive, options: LoadOptions) -> None:
        """Find inputs, outputs and structure from a module whose tensors are marked."""
        arguments = arguments_of(module, options.inputs)
        write_out(module)
        parameters = dict(module.named_parameters()) | dict(module.named_buffers())
        self._names = TensorNames(self._archive, marked, parameters)
        self.needs_inputs = any(argument.askable for argument in arguments if not argument.known)
        trial, problem = _first_run(module, arguments)
        self._examples = () if trial is None else trial.examples
        self.inputs = _input_infos(arguments, trial)
        self.outputs = _output_infos(trial)
        self._build(module, arguments, trial, problem)

    def _build(
        self,
        module: torch.jit.ScriptModule,
        arguments: Sequence[Argument],
        trial: _Trial | None,
        problem: str | None,
    ) -> None:
        """Set structure and warning: the exported graph, else that of a run, else only layers and why."""
        self.structure_warning = None
        finder = LayerFinder(module, self._names)
        layers = finder.layers()
        if self._archive.packed and not layers:
            problem = _PACKED
        elif trial is not None:
            problem = self._exported(module, arguments, trial)
            if problem is not None or _has_bodies(self.structure):
                exported = None if problem is not None else (self.structure, self._stored)
                problem = self._followed(module, arguments, trial, layers)
                if problem is not None and exported is not None:
                    problem, (self.structure, self._stored) = None, exported
        if problem is None and not layers and finder.computed():
            problem = _COMPUTED
        if problem is not None:
            self.structure = structure_of_layers(layers, self._names)
            self._stored = {value: value.name or "" for value in self.structure.graph.initializers.values()}
            self.structure_warning = (
                f"the model's graph is not known ({problem}), {_APART}" if layers else problem
            )

    def _exported(
        self, module: torch.jit.ScriptModule, arguments: Sequence[Argument], trial: _Trial
    ) -> str | None:
        """Set the structure from the exporter; says why not when it cannot."""
        try:
            proto = export(module, trial.examples, [a.name for a in arguments if a.is_tensor and a.fed])
            structure = structure_of(proto, Path())
        except InvalidModelError as error:
            return str(error)
        stored = bind(structure, self._names)
        restore_parameters(structure.graph, list(stored))
        return self._take(structure, stored)

    def _followed(
        self,
        module: torch.jit.ScriptModule,
        arguments: Sequence[Argument],
        trial: _Trial,
        layers: Sequence[Layer],
    ) -> str | None:
        """Set the structure from a run, with the layers it did not reach; says why not when it cannot."""
        try:
            structure, stored = record(module, trial.examples, [a.name for a in arguments], self._names)
        except Exception as error:  # code of the file runs here and may raise anything
            raise_if_memory(error)
            return first_line(error)
        problem = self._take(structure, stored)
        if problem is None:
            known = set(self._stored.values())
            apart = [layer for layer in layers if known.isdisjoint(layer.weights)]
            added = add_layers(structure.graph, apart, self._names)
            self._stored |= {value: value.name or "" for value in added}
        return problem

    def _take(self, structure: ir.Model, stored: dict[ir.Value, str]) -> str | None:
        """Keep a structure with what it uses of the archive; a graph without any weight is none."""
        RemoveUnusedNodesPass()(structure)
        self.structure, self._stored = structure, in_use(stored)
        return None if self._stored else "it leaves out the weights"

    def read(self, value: ir.Value) -> Array:
        """The tensor in its own dtype, from the archive where it is stored there."""
        name = self._stored.get(value)
        if name is None:
            tensor = stored_tensor(value)
            return plain_constant(value) if tensor is None else tensor.numpy()
        place = self._names.place(name)
        return place.view(self._record(place))

    def _record(self, place: TensorPlace) -> Array:
        written = self._records.get(place.record)
        return self._archive.record(place.record) if written is None else written

    def writable(self, value: ir.Value) -> bool:
        """True for tensors of the archive of which no two elements share a place."""
        name = self._stored.get(value)
        return name is not None and self._names.place(name).dense

    def write(self, value: ir.Value, array: Array) -> None:
        """Replace the tensor, for all its aliases. ValueError if not writable or of other shape or dtype."""
        if not self.writable(value):
            raise ValueError(f"{value.name!r} cannot be written")
        place = self._names.place(self._stored[value])
        if array.shape != place.shape or array.dtype != place.dtype:
            raise ValueError(f"{value.name!r} is of another shape or type than {array.dtype}{array.shape}")
        record = np.array(self._record(place))
        place.view(record)[...] = array
        self._records[place.record] = record

    def save(self, path: Path) -> None:
        """Write the archive with the changed bytes and their checksums."""
        self._archive.save(path, self._records.items())

    def rewritten(self, edits: Sequence[Edit], directory: Path) -> Network:
        """The smaller module in a file of its own. Only cuts are taken from the edits: numbers that count
        channels stand elsewhere in code than in the structure, and are found there."""
        cuts = self._cuts(edits)
        written, path = directory / "full.pt", directory / "smaller.pt"
        self.save(written)
        path.write_bytes(rewrite(written, self._names, cuts, self._examples))
        written.unlink()
        return TorchscriptNetwork(path, replace(self._options, scratch=directory))

    def refusal(self, edits: Sequence[Edit]) -> str | None:
        """What the code cannot be followed through, were it to lose these channels."""
        try:
            follow(self.file, self._names, self._cuts(edits), self._examples)
        except InvalidRecipeError as error:
            return str(error).partition(": ")[2]
        return None

    def narrowed(self, statistics: Sequence[Edit], cuts: Sequence[Edit], directory: Path) -> Network:
        """The module as written now, in which statistics over channels are taken over those that stay."""
        if not statistics:
            return self
        written, path = directory / "masked.pt", directory / "narrowed.pt"
        self.save(written)
        path.write_bytes(narrowed(written, self._names, self._cuts(cuts), self._examples))
        return TorchscriptNetwork(path, replace(self._options, scratch=directory))

    def trainable(self, device: str = "cpu") -> Trainable:
        """The module with the weights as they are written now, on that device."""
        if not self._examples:
            raise InvalidRecipeError(f"the module cannot be trained: {self.structure_warning}")
        with tempfile.TemporaryDirectory(prefix="trained-", dir=self._scratch) as scratch:
            self.save(Path(scratch) / "now.pt")
            module = load_module(Path(scratch) / "now.pt", device)
        tie(module, self._names)
        write_out(module)
        arguments = arguments_of(module, self._options.inputs)
        return TorchscriptTrainable(self, module, arguments, self._stored, self._examples)

    def _cuts(self, edits: Sequence[Edit]) -> dict[str, Mapping[int, Array]]:
        """What is left of each tensor of the archive. InvalidRecipeError where its readers disagree."""
        cuts: dict[str, Mapping[int, Array]] = {}
        for edit in edits:
            cut = edit.cut if isinstance(edit, SetOperand) else None
            name = None if cut is None else self._stored.get(cut.tensor)
            if cut is None or name is None:
                continue
            kept = cuts.setdefault(name, cut.kept)
            if kept.keys() != cut.kept.keys() or any(not np.array_equal(kept[a], cut.kept[a]) for a in kept):
                raise InvalidRecipeError(f"operators that share {name!r} would keep different channels of it")
        return cuts


@final
@register
class TorchscriptFormat(Format):
    """TorchScript, as torch.jit.save writes it."""

    format = ModelFormat.TORCHSCRIPT

    def load(self, path: Path, options: LoadOptions) -> Network:
        """Look the archive over, load it, find its structure. Code of the file runs: for the sandbox only."""
        return TorchscriptNetwork(path, options)

    def runner(self, path: Path, options: LoadOptions, threads: int) -> Runner:
        """The module in evaluation mode, after the same checks of the archive as for loading."""
        TorchArchive(path, options.logical_bytes)
        return TorchscriptRunner(path, options.inputs, options.device, threads)


def _has_bodies(structure: ir.Model) -> bool:
    """True for a graph with loops and branches, in which layers may be out of sight: a run shows them all."""
    return any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for node in structure.graph
        for attribute in node.attributes.values()
    )


def _first_run(
    module: torch.jit.ScriptModule, arguments: Sequence[Argument]
) -> tuple[_Trial | None, str | None]:
    """Run once, guessing dtypes that were not given; the problem in words when no guess works."""
    unknown = [argument for argument in arguments if not argument.known]
    if unknown:
        odd = [f"{one.name} is of type {one.kind}" for one in unknown if not one.askable]
        names = ", ".join(one.name for one in unknown)[:200]
        no_shape = f"the file does not say the shape of its input {names}"
        return None, f"no example can be made for it: {', '.join(odd)[:200]}" if odd else no_shape
    problem, calls = None, Calls(module)
    for values in examples(arguments):
        try:
            return _Trial(values, tuple(flattened(calls(*values)))), None
        except Exception as error:  # code of the file runs here and may raise anything
            raise_if_memory(error)
            problem = problem or f"it does not run with the inputs given: {first_line(error)}"
    return None, problem


def _input_infos(arguments: Sequence[Argument], trial: _Trial | None) -> tuple[TensorInfo, ...]:
    values = () if trial is None else trial.examples
    dtypes = [value.dtype if isinstance(value, torch.Tensor) else None for value in values]
    dtypes += [None] * (len(arguments) - len(dtypes))
    return tuple(a.info(dtype) for a, dtype in zip(arguments, dtypes, strict=True) if a.fed)


def _output_infos(trial: _Trial | None) -> tuple[TensorInfo, ...]:
    arrays = () if trial is None else trial.outputs
    return tuple(
        TensorInfo(name=name, dtype=array.dtype.name, shape=list(array.shape))
        for name, array in zip(output_names(len(arrays)), arrays, strict=True)
    )
