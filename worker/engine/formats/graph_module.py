"""A torch module that computes what an ONNX graph computes, differentiably, with the file's own weights."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import onnx_ir as ir
import torch
from torch import Tensor, nn

from api_schemas.models import ModelFormat, TensorInfo
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.base import Network
from worker.engine.formats.graph_builder import Builder
from worker.engine.formats.graph_fusion import fused
from worker.engine.formats.graph_plan import Plan, Watch, step_reads, with_deaths
from worker.engine.formats.graph_weights import statistics, weights
from worker.engine.formats.operators import Sizes
from worker.engine.formats.operators.call import TORCH_TYPES, Mode

#: The step between numbers beyond which a type is of half precision, and how far two ways to compute it lie
#: apart then.
_SINGLE, _COARSE = 1e-6, 3e-2


@final
class GraphModule(nn.Module):
    """The main graph of a network. Called with input tensors in order, gives a tuple of output tensors.

    Half-precision values are held in float32, weights included. Batch norm uses its stored statistics until
    `batch_norm(training=True)`. Weights are parameters under their names in the file, "." written as "/".
    """

    def __init__(self, network: Network, device: str, dtype: torch.dtype | None) -> None:
        super().__init__()
        structure = network.structure
        self._mode = Mode(torch.device(device), dtype)
        running = statistics(structure)
        trained = weights(network)
        builder = Builder(network, self._mode, trained | running)
        plan = builder.main()
        #: The steps of the file, and fewer that give the same: for when nobody watches what is inside.
        self._plan = with_deaths(plan)
        self._short = with_deaths(fused(plan, builder.frame, builder.stored))
        self._frame = builder.frame
        self._places = builder.places
        inputs = [value for value in structure.graph.inputs if not value.is_initializer()]
        self.input_names = tuple(value.name or "" for value in inputs)
        self.output_names = tuple(value.name or "" for value in structure.graph.outputs)
        self._input_types = tuple(_floating(value, self._mode) for value in inputs)
        self._watches: list[Watch] = []
        #: Weights by handle.
        self.weights: dict[ir.Value, nn.Parameter] = {}
        #: Batch norm's running means and variances by handle.
        self.running: dict[ir.Value, Tensor] = {}
        self._stored: list[tuple[int, str]] = []
        self._register(builder, trained, running)

    def _register(self, builder: Builder, trained: frozenset[ir.Value], running: frozenset[ir.Value]) -> None:
        """Make the tensors that are read parameters and buffers of the module."""
        handles = {number: value for value, number in builder.handles.items()}
        taken = set(self._modules) | set(dir(self))
        for number in sorted(_read(self._plan) & set(builder.stored)):
            value, tensor = handles.get(number), builder.stored[number]
            name = _name(value, number, taken)
            if value is not None and value in trained:
                self.weights[value] = nn.Parameter(tensor)
                self.register_parameter(name, self.weights[value])
            else:
                self.register_buffer(name, tensor, persistent=value in running)
                if value is not None and value in running:
                    self.running[value] = tensor
            self._stored.append((number, name))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs in order. Floating inputs are taken in whatever floating type the module computes in."""
        frame, given = self._begin(inputs)
        watch = self._watch(frame) if self._watches else None
        plan = self._short if watch is None else self._plan
        outputs = plan.call(frame, watch, *given)
        device = self._mode.device
        self._show(watch)
        return tuple(one.tensor(device) if isinstance(one, Sizes) else one for one in outputs)

    def reach(self, *inputs: Tensor) -> None:
        """Run as `forward` does, but no further than the values that are watched, and give nothing."""
        frame, given = self._begin(inputs)
        watch = self._watch(frame)
        self._plan.upto(frozenset(watch)).call(frame, watch, *given)
        self._show(watch)

    def _begin(self, inputs: tuple[Tensor, ...]) -> tuple[list[Any], list[Tensor]]:
        """A frame with the stored tensors in it, and the inputs in the types that are computed in."""
        frame = self._frame.copy()
        for place, name in self._stored:
            frame[place] = getattr(self, name)
        given = [
            one if dtype is None else one.to(dtype)
            for one, dtype in zip(inputs, self._input_types, strict=True)
        ]
        return frame, given

    def _show(self, watch: Watch | None) -> None:
        if watch is not None:
            for filled in self._watches:
                filled.update({place: watch[place] for place in filled})

    def _watch(self, frame: list[Any]) -> Watch:
        """What is to be seen; stored tensors are there before the first step."""
        return {place: frame[place] for filled in self._watches for place in filled}

    def batch_norm(self, *, training: bool) -> None:
        """Normalise by each batch's own statistics, updating the running ones, or by those stored."""
        self._mode.batch_norm_training = training

    @contextmanager
    def watching(self, values: Iterable[ir.Value]) -> Iterator[Mapping[ir.Value, Tensor]]:
        """A mapping that every forward fills anew with these values of the structure; gradients flow through.

        InvalidRecipeError for a value that the graph does not have.
        """
        wanted = tuple(values)
        unknown = [value.name for value in wanted if value not in self._places]
        if unknown:
            raise InvalidRecipeError(f"the graph has no value {unknown[0]!r}")
        watch: Watch = dict.fromkeys(self._places[value] for value in wanted)
        self._watches.append(watch)
        try:
            yield _Watched({value: self._places[value] for value in wanted}, watch, self._mode.device)
        finally:
            self._watches = [other for other in self._watches if other is not watch]


@final
class _Watched(Mapping[ir.Value, Tensor]):
    """Values by handle, as the last forward made them."""

    def __init__(self, places: Mapping[ir.Value, int], watch: Watch, device: torch.device) -> None:
        self._places, self._watch, self._device = places, watch, device

    def __getitem__(self, value: ir.Value) -> Tensor:
        found = self._watch[self._places[value]]
        if found is None:
            raise KeyError(value)
        tensor: Tensor = found.tensor(self._device) if isinstance(found, Sizes) else found
        return tensor

    def __iter__(self) -> Iterator[ir.Value]:
        return (value for value, place in self._places.items() if self._watch[place] is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def graph_module(network: Network, device: str = "cpu", dtype: torch.dtype | None = None) -> GraphModule:
    """The network's structure as a torch module; `dtype` computes everything floating in that type.

    Raises InvalidRecipeError where the structure is only a sketch of the file or has operators not covered.
    """
    if network.structure_warning is not None:
        raise InvalidRecipeError(f"torch cannot follow the model: {network.structure_warning}")
    if network.format is not ModelFormat.ONNX and not _computes_the_same(network):
        raise InvalidRecipeError(
            "torch cannot follow the model: its graph was drawn for reasoning, not to run"
        )
    return GraphModule(network, device, dtype)


def _computes_the_same(network: Network) -> bool:
    """Whether a structure drawn from code gives what the code gives, on one example."""
    trainable, module = network.trainable("cpu"), GraphModule(network, "cpu", None)
    shapes = {info.name: info for info in network.inputs}
    if module.input_names != trainable.input_names or not set(module.input_names) <= set(shapes):
        return False
    generator = torch.Generator().manual_seed(0)
    inputs = [_example(shapes[name], generator) for name in module.input_names]
    with torch.no_grad():
        pairs = list(zip(module(*inputs), trainable.module(*inputs), strict=False))
    return all(_alike(found, wanted) for found, wanted in pairs)


def _alike(found: Tensor, wanted: Tensor) -> bool:
    """Equal but for rounding, which is coarse where code computes in half precision."""
    if found.shape != wanted.shape:
        return False
    if not wanted.is_floating_point():
        return torch.equal(found.to(wanted.dtype), wanted)
    coarse = torch.finfo(wanted.dtype).eps > _SINGLE
    rtol, atol = (_COARSE, _COARSE) if coarse else (1e-3, 1e-5)
    return torch.allclose(found.to(wanted.dtype), wanted, rtol=rtol, atol=atol)


def _example(info: TensorInfo, generator: torch.Generator) -> Tensor:
    shape = [size if isinstance(size, int) else 1 for size in info.shape or ()]
    drawn = torch.rand(shape, generator=generator)
    return drawn.to(getattr(torch, info.dtype)) if info.dtype != "bool" else drawn > 0


def _floating(value: ir.Value, mode: Mode) -> torch.dtype | None:
    """The type to hold an input in, None for what is no float."""
    if value.dtype is None or not value.dtype.is_floating_point():
        return None
    dtype = TORCH_TYPES.get(value.dtype.value)
    return None if dtype is None else mode.computed(dtype)


def _read(plan: Plan) -> frozenset[int]:
    reads = set(plan.outputs)
    for step in plan.steps:
        reads |= step_reads(step)
    return frozenset(reads)


def _name(value: ir.Value | None, number: int, taken: set[str]) -> str:
    name = (value.name or "" if value is not None else "").replace(".", "/") or f"fixed/{number}"
    while name in taken:
        name += "_"
    taken.add(name)
    return name
