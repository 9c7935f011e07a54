"""The graph of a TorchScript module from one run of it: every tensor operation as it happened.

For modules the exporter cannot follow (optional arguments, control flow, kept state): what runs is a straight
line, whatever the code looks like. Operations without a translation become opaque operators of the domain
`aten`, at which an analysis stops.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from worker.engine.formats import torch_operators_nn as _nn  # noqa: F401  (registers its translations)
from worker.engine.formats.base import Array
from worker.engine.formats.torch_layers import initializer
from worker.engine.formats.torch_names import TensorNames
from worker.engine.formats.torch_operators import OPERATORS, Call, Sink, Untranslated
from worker.engine.formats.torch_signature import dtype_name, to_array

_OPSET = 21
_MOST_ELEMENTS = 2**22
_DTYPES = {"bfloat16": ir.DataType.BFLOAT16, "bool": ir.DataType.BOOL}


class Recording(Sink):
    """Nodes and values of a run. Tensors are known by identity, so all of them are kept until the end."""

    def __init__(self, names: TensorNames) -> None:
        self._names = names
        self._kept: list[torch.Tensor] = []
        self._values: dict[int, ir.Value] = {}
        self._of_storage: dict[int, list[torch.Tensor]] = {}
        self.nodes: list[ir.Node] = []
        self.stored: dict[ir.Value, str] = {}

    def know(self, tensor: torch.Tensor, value: ir.Value) -> None:
        """From now on the tensor is what `value` stands for."""
        value.shape = ir.Shape(tuple(tensor.shape))
        value.type = ir.TensorType(_data_type(tensor))
        self._kept.append(tensor)
        self._values[id(tensor)] = value
        if tensor.layout == torch.strided:
            self._of_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(tensor)

    def value(self, tensor: torch.Tensor) -> ir.Value:
        """What stands for a tensor; one that no operation made is a tensor of the file or a constant."""
        if id(tensor) not in self._values:
            self.know(tensor, self._found(to_array(tensor)))
        return self._values[id(tensor)]

    def _found(self, array: Array) -> ir.Value:
        name = self._names.find(array) if array.size > 1 or array.ndim else None
        if name is None:
            return self.constant(array)
        for value, known in self.stored.items():
            if known == name:
                return value
        value = initializer(name, self._names)
        self.stored[value] = name
        return value

    def constant(self, array: Array) -> ir.Value:
        """The output of a new Constant node."""
        return self.emit("Constant", [], {"value": ir.AttrTensor("value", ir.tensor(array))})[0]

    def emit(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
        *,
        outputs: int = 1,
        domain: str = "",
    ) -> Sequence[ir.Value]:
        """Add a node; returns its outputs."""
        node = ir.node(operator, inputs, attributes or {}, num_outputs=outputs, domain=domain)
        for output in node.outputs:
            output.name = f"v{len(self.nodes)}_{output.index()}"
        node.name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(node)
        return node.outputs

    def forget_views(self, changed: torch.Tensor) -> None:
        """Other tensors with elements of one that was changed in place are not what they were."""
        if changed.layout != torch.strided:
            return
        for other in self._of_storage.get(changed.untyped_storage().data_ptr(), []):
            if other is not changed and _overlap(other, changed):
                value = self._values[id(other)]
                (made,) = self.emit("changed_in_place", [value], domain="aten")
                made.shape, made.type = value.shape, value.type
                self._values[id(other)] = made


def _overlap(first: torch.Tensor, second: torch.Tensor) -> bool:
    """True when two tensors over one storage share an element; assumed of storages too large to look at."""
    size = first.untyped_storage().nbytes() // first.element_size()
    if first.element_size() != second.element_size() or size > _MOST_ELEMENTS:
        return True
    marks = np.zeros(size, np.bool_)
    _elements(marks, first)[...] = True
    return bool(_elements(marks, second).any())


def _elements(marks: Array, tensor: torch.Tensor) -> Array:
    """The marks at a tensor's places in its storage."""
    return np.lib.stride_tricks.as_strided(marks[tensor.storage_offset() :], tensor.shape, tensor.stride())


def _data_type(tensor: torch.Tensor) -> ir.DataType:
    name = dtype_name(tensor.dtype)
    try:
        return _DTYPES.get(name) or ir.DataType.from_numpy(np.dtype(name))
    except TypeError:
        return ir.DataType.UNDEFINED


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation below autograd."""

    def __init__(self, recording: Recording) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recording = recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [self._recording.value(tensor) for tensor in _tensors((args, kwargs))]
        result = func(*args, **(kwargs or {}))
        made = _tensors(result)
        name = func.overloadpacket.__name__
        operator = OPERATORS.get(name) or OPERATORS.get(name.removesuffix("_"))
        try:
            if operator is None:
                raise Untranslated(name)
            values = operator(Call(self._recording, _bound(func, args, kwargs or {}), made))
        except Untranslated:
            values = self._recording.emit(name, inputs, outputs=max(1, len(made)), domain="aten")
        for tensor, value in zip(made, values, strict=False):
            self._recording.know(tensor, value)
        if func._schema.is_mutable:
            self._written(func, args, made, values)
        return result

    def _written(
        self, func: Any, args: Any, made: Sequence[torch.Tensor], values: Sequence[ir.Value]
    ) -> None:
        """An argument written to is the result from now on; views of it are unknown."""
        for argument, given in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for tensor in _tensors(given):
                if all(tensor is not result for result in made) and values:
                    (opaque,) = self._recording.emit("written", [values[0]], domain="aten")
                    self._recording.know(tensor, opaque)
                self._recording.forget_views(tensor)


def _bound(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the schema, defaults filled in."""
    bound = {a.name: a.default_value if a.has_default_value() else None for a in func._schema.arguments}
    bound.update({a.name: given for a, given in zip(func._schema.arguments, args, strict=False)})
    bound.update(kwargs)
    return bound


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return _tensors(tuple(value.values()))
    if isinstance(value, list | tuple):
        return [tensor for element in value for tensor in _tensors(element)]
    return []


def record(
    module: torch.jit.ScriptModule, examples: Sequence[Any], labels: Sequence[str], names: TensorNames
) -> tuple[ir.Model, dict[ir.Value, str]]:
    """Run once; the graph of it, and the stored tensors in it with their names. Raises what the module does.

    Gradients are on where the module bears it: without them some of torch's layers take short cuts that do
    everything in one operation.
    """
    try:
        with torch.enable_grad():
            return _record(module, examples, labels, names)
    except RuntimeError:
        with torch.no_grad():
            return _record(module, examples, labels, names)


def _record(
    module: torch.jit.ScriptModule, examples: Sequence[Any], labels: Sequence[str], names: TensorNames
) -> tuple[ir.Model, dict[ir.Value, str]]:
    recording = Recording(names)
    inputs: list[ir.Value] = []
    for example, label in zip(examples, labels, strict=True):
        if isinstance(example, torch.Tensor):
            inputs.append(ir.Value(name=label))
            recording.know(example, inputs[-1])
    with torch.jit.optimized_execution(False), _Recorder(recording):  # type: ignore[attr-defined]
        result = copy.deepcopy(module)(*examples)
    outputs = [recording.value(tensor) for tensor in _tensors(result)]
    graph = ir.Graph(
        inputs,
        outputs,
        nodes=recording.nodes,
        initializers=list(recording.stored),
        opset_imports={"": _OPSET, "aten": 1},
        name="recorded",
    )
    _name_layers(recording.stored)
    return ir.Model(graph, ir_version=10), recording.stored


def _name_layers(stored: Mapping[ir.Value, str]) -> None:
    """An operator is called like the module whose weight it reads."""
    taken: set[str] = set()
    for value, name in stored.items():
        for node in _readers(value):
            label = name.rpartition(".")[0] or name
            if label not in taken and name.rpartition(".")[2].startswith(("weight", "in_proj_weight")):
                node.name = label
                taken.add(label)


def _readers(value: ir.Value) -> Iterator[ir.Node]:
    for node in value.consumers():
        if node.op_type in ("Transpose", "Unsqueeze"):
            yield from _readers(node.outputs[0])
        else:
            yield node
