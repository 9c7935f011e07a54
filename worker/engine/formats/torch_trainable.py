"""A TorchScript module to train: the module of the file itself, its parameters by handle of the structure.

Batch norm's mode is an argument of an operator, which tracing writes down as a constant and scripting reads
off the submodule. Both are replaced by one attribute that is ours, so that modules of either kind can be
switched and dropout stays as the file has it.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import onnx_ir as ir
import torch

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.base import Array, Network
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.torch_interpreter import walk
from worker.engine.formats.torch_module import first_line, output_names
from worker.engine.formats.torch_names import TensorNames
from worker.engine.formats.torch_signature import Argument, to_array, to_value
from worker.engine.formats.trainable import Trainable

#: The attribute that says how batch norm runs; no Python name may look like it, so that no module has it.
_MODE = "batch norm of lookahead"
_TRAINING_ARGUMENT = 5
_RECURRENT = ("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu")


@final
class TorchscriptTrainable(Trainable):
    """`module` is private to it and holds the network's weights as they are written now; `stored` names the
    tensors of the module by handle. Raises InvalidRecipeError when torch fails on the module."""

    def __init__(
        self,
        network: Network,
        module: torch.jit.ScriptModule,
        arguments: Sequence[Argument],
        stored: Mapping[ir.Value, str],
        examples: Sequence[Any],
    ) -> None:
        self._network = network
        self.input_names = tuple(argument.name for argument in arguments if argument.fed)
        own = dict(module.named_parameters(remove_duplicate=False))
        held = dict(module.named_buffers())
        running = _running(network.structure)
        self.parameters = {
            value: _parameter(own[name]) for value, name in stored.items() if _trains(own.get(name))
        }
        self.statistics = {value: held[stored[value]] for value in running if stored.get(value) in held}
        _freeze(own.values(), self.parameters.values())
        self._mode = _switch(module)
        self.module = _Run(module, arguments, set(map(id, self.statistics.values())))
        self.output_names = output_names(len(self._first_run(arguments, examples)))

    def _first_run(self, arguments: Sequence[Argument], examples: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        device = next(iter(self.module.parameters()), torch.empty(0)).device
        pairs = zip(arguments, examples, strict=False)
        inputs = [torch.as_tensor(value).to(device) for argument, value in pairs if argument.fed]
        try:
            with torch.no_grad():
                outputs: tuple[torch.Tensor, ...] = self.module(*inputs)
        except Exception as error:  # code of the file runs here and may raise anything
            raise_if_memory(error)
            raise InvalidRecipeError(
                f"the TorchScript module cannot be trained on {device}: {first_line(error)}"
            ) from None
        return outputs

    def batch_norm(self, *, training: bool) -> None:
        self._mode(training)

    def store(self) -> None:
        for value, tensor in (*self.parameters.items(), *self.statistics.items()):
            array, before = to_array(tensor), self._network.read(value)
            if not _same_bits(array, before):
                self._network.write(value, np.ascontiguousarray(array))


@final
class _Run(torch.nn.Module):
    """Calls the module with tensors alone. Every call finds it in the state of the file."""

    def __init__(
        self, module: torch.jit.ScriptModule, arguments: Sequence[Argument], statistics: set[int]
    ) -> None:
        super().__init__()
        self.inner = module
        self._arguments = tuple(arguments)
        kinds = {node.kind() for node in walk(module.forward.graph)}  # type: ignore[attr-defined]
        self._recurrent = not kinds.isdisjoint(_RECURRENT)
        self._attributes = list(_written(module))
        buffers = [tensor for tensor in module.buffers() if id(tensor) not in statistics]
        self._held = [(tensor, tensor.clone()) for tensor in buffers]
        self._places = {tensor.untyped_storage().data_ptr() for tensor in buffers}
        self._changes_buffers = False

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = iter(inputs)
        values = {argument.name: _value(argument, given) for argument in self._arguments}
        versions = [tensor._version for tensor, _ in self._held]
        for put_back in self._attributes:
            put_back()
        with self._plain_execution(), self._saving_copies():
            output = self.inner(**{name: value for name, value in values.items() if value is not None})
        for (tensor, before), version in zip(self._held, versions, strict=True):
            if tensor._version != version:
                self._changes_buffers = True
                with torch.no_grad():  # cut off from this call's gradients, too
                    tensor.detach_().copy_(before)
        return tuple(_tensors(output))

    @contextlib.contextmanager
    def _plain_execution(self) -> Iterator[None]:
        """Without the optimising executor, whose first runs differ in their bits from later ones, and without
        cuDNN's recurrent operators, which cannot be differentiated in evaluation mode."""
        recurrent = self._recurrent and torch.is_grad_enabled()
        optimised: Any = torch.jit.optimized_execution  # type: ignore[attr-defined]
        with warnings.catch_warnings(), optimised(False):
            warnings.simplefilter("ignore")  # torch deprecates TorchScript as a whole
            with torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent):
                yield

    def _saving_copies(self) -> contextlib.AbstractContextManager[object]:
        """What is saved for gradients is copied where forward writes over it: into its buffers."""
        if not self._changes_buffers:
            return contextlib.nullcontext()
        return torch.autograd.graph.saved_tensors_hooks(self._copied, lambda tensor: tensor)

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        inside = tensor.untyped_storage().data_ptr() in self._places
        return tensor.detach().clone() if inside and not tensor.requires_grad else tensor


def tie(module: torch.jit.ScriptModule, names: TensorNames) -> None:
    """Give attributes that share a tensor of the file one tensor in memory, so that it gets one gradient."""
    held: dict[str, torch.Tensor] = {}
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for path in names.paths():
        name = names.canonical(path)
        if name is None or path not in parameters:
            continue
        *owners, last = path.split(".")
        owner: Any = module._c
        for step in owners:
            owner = owner.getattr(step)
        if name in held:
            owner.setattr(last, held[name])
        else:
            held[name] = owner.getattr(last)


def _running(structure: ir.Model) -> list[ir.Value]:
    """Running means and variances of the structure's batch norms."""
    nodes = [node for node in structure.graph.all_nodes() if node.op_type == "BatchNormalization"]
    return [value for node in nodes for value in node.inputs[3:5] if value is not None]


def _trains(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and tensor.is_floating_point() and tensor.is_leaf


def _parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    """The very tensor, known to torch as a parameter: those of loaded modules are plain tensors."""
    tensor.requires_grad_(True)
    tensor._is_param = True
    if not isinstance(tensor, torch.nn.Parameter):
        raise InvalidRecipeError("this version of torch does not take a module's tensors as parameters")
    return tensor


def _freeze(tensors: Iterable[torch.Tensor], trained: Iterable[torch.Tensor]) -> None:
    """Parameters without a handle cannot be written back, so they must not change."""
    kept = {id(tensor) for tensor in trained}
    for tensor in tensors:
        if id(tensor) not in kept and tensor.is_floating_point():
            tensor.requires_grad_(False)


def _switch(module: torch.jit.ScriptModule) -> Callable[[bool], None]:
    """Make every batch norm read one attribute; returns what sets it. Must come before the first call."""
    graph = module.forward.graph  # type: ignore[attr-defined]
    torch._C._jit_pass_inline(graph)
    norms = [node for node in walk(graph) if node.kind() == "aten::batch_norm"]
    inner: Any = module._c
    if norms:
        inner._register_attribute(_MODE, torch._C.BoolType.get(), False)
    for node in norms:
        mode = graph.create("prim::GetAttr", [next(graph.inputs())], 1)
        mode.s_("name", _MODE)
        mode.output().setType(torch._C.BoolType.get())
        mode.insertBefore(node)
        node.replaceInput(_TRAINING_ARGUMENT, mode.output())
    torch._C._jit_pass_lint(graph)
    return (lambda training: inner.setattr(_MODE, training)) if norms else lambda _training: None


def _written(module: torch.jit.ScriptModule) -> Iterator[Callable[[], None]]:
    """What puts back each attribute that forward sets, to what it is now."""
    graph: Any = module.forward.graph  # type: ignore[attr-defined]
    me = next(graph.inputs()).debugName()
    for path in {_path(node, me) for node in walk(graph) if node.kind() == "prim::SetAttr"}:
        *owners, name = path
        owner: Any = module._c
        for step in owners:
            owner = owner.getattr(step)
        yield _putting_back(owner, name, owner.getattr(name))


def _path(node: Any, me: str) -> tuple[str, ...]:
    """Names from the module down to the attribute that a SetAttr sets."""
    steps = [node.s("name")]
    owner = node.inputsAt(0)
    while owner.debugName() != me:
        maker = owner.node()
        if maker.kind() != "prim::GetAttr":
            raise InvalidRecipeError(
                f"the module cannot be trained: forward sets {steps[0]!r} of an object that is not its own"
            )
        steps.append(maker.s("name"))
        owner = maker.inputsAt(0)
    return tuple(reversed(steps))


def _putting_back(owner: Any, name: str, before: Any) -> Callable[[], None]:
    kept = before.detach().clone() if isinstance(before, torch.Tensor) else before

    def put_back() -> None:
        owner.setattr(name, kept.clone() if isinstance(kept, torch.Tensor) else kept)

    return put_back


def _value(argument: Argument, given: Iterator[torch.Tensor]) -> Any:
    if not argument.fed:
        return to_value(argument, {}, torch.device("cpu"))
    tensor = next(given)
    return tensor.item() if argument.is_scalar else tensor


def _tensors(output: Any) -> Iterator[torch.Tensor]:
    """All tensors and numbers of an output, in the order of the runner's outputs."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, bool | int | float):
        yield torch.as_tensor(output)
    elif isinstance(output, dict | list | tuple):
        for value in output.values() if isinstance(output, dict) else output:
            yield from _tensors(value)


def _same_bits(first: Array, second: Array) -> bool:
    one, other = (np.ascontiguousarray(array).view(np.uint8) for array in (first, second))
    return first.shape == second.shape and np.array_equal(one, other)
