"""Operations of torch as ONNX operators, for reasoning about structure: one function for each family.

A function is given a call and gives values for the tensors that came out, as many of them as matter. What has
no counterpart raises `Untranslated`.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from worker.engine.formats.base import Array
from worker.engine.formats.torch_signature import to_array


class Untranslated(Exception):  # noqa: N818 - not an error of anyone
    """The operation has no counterpart here."""


class Sink(abc.ABC):
    """Where translated operators go."""

    @abc.abstractmethod
    def value(self, tensor: torch.Tensor) -> ir.Value:
        """What stands for a tensor."""

    @abc.abstractmethod
    def constant(self, array: Array) -> ir.Value:
        """A new constant."""

    @abc.abstractmethod
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


Values = Sequence[ir.Value]


@dataclass(frozen=True)
class Call:
    """One operation: its arguments by name, defaults filled in, and the tensors that came out."""

    sink: Sink
    arguments: Mapping[str, Any]
    made: Sequence[torch.Tensor]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument, or `default` where the operation has none of that name."""
        return self.arguments.get(name, default)

    def value(self, name: str) -> ir.Value:
        """What stands for a tensor argument."""
        return self.sink.value(self.arguments[name])

    def optional(self, name: str) -> ir.Value | None:
        """What stands for a tensor argument that may be None."""
        return None if self.arguments[name] is None else self.value(name)

    def ints(self, *numbers: int) -> ir.Value:
        """A constant list of integers."""
        return self.sink.constant(np.array(numbers, np.int64))

    def emit(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any] | None = None,
        *,
        outputs: int = 1,
    ) -> Values:
        """Add a node; returns its outputs."""
        return self.sink.emit(operator, inputs, attributes, outputs=outputs)


Operator = Callable[[Call], Values]
OPERATORS: dict[str, Operator] = {}


def translates(*names: str) -> Callable[[Operator], Operator]:
    """Decorator: the function translates the operations of these names (without overload)."""

    def known(operator: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, operator))
        return operator

    return known


def axis_of(dim: int, rank: int) -> int:
    """A dimension counted from the front."""
    return dim % max(rank, 1)


@translates("clone", "contiguous", "detach", "alias", "lift_fresh", "lift_fresh_copy", "_to_copy")
def _same(call: Call) -> Values:
    """The same value in another tensor; a change of type is a Cast."""
    if call["self"].dtype == call.made[0].dtype:
        return [call.value("self")]
    kind = to_array(call.made[0].new_empty(0)).dtype
    return call.emit("Cast", [call.value("self")], {"to": ir.DataType.from_numpy(kind)})


@translates("zeros", "ones", "full", "arange", "empty", "scalar_tensor", "eye", "linspace", "tril_indices")
def _made_up(call: Call) -> Values:
    """Numbers of the code, whatever made them."""
    return [call.sink.constant(to_array(call.made[0]))]


@translates("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def _made_alike(call: Call) -> Values:
    return _made_up(call)


_PLAIN = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Selu": "selu",
    "Mish": "mish",
    "HardSwish": "hardswish",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Abs": "abs",
    "Neg": "neg",
    "Erf": "erf",
    "Reciprocal": "reciprocal",
    "Sin": "sin",
    "Cos": "cos",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
}


def _unary(operator: str) -> Operator:
    def translate(call: Call) -> Values:
        return call.emit(operator, [call.sink.value(next(iter(call.arguments.values())))])

    return translate


for _operator, _names in _PLAIN.items():
    translates(*_names.split())(_unary(_operator))


@translates("elu")
def _elu(call: Call) -> Values:
    if call["scale"] != 1 or call["input_scale"] != 1:
        return call.emit(
            "Selu", [call.value("self")], {"alpha": float(call["alpha"]), "gamma": float(call["scale"])}
        )
    return call.emit("Elu", [call.value("self")], {"alpha": float(call["alpha"])})


@translates("gelu")
def _gelu(call: Call) -> Values:
    return call.emit("Gelu", [call.value("self")], {"approximate": call["approximate"]})


@translates("leaky_relu")
def _leaky_relu(call: Call) -> Values:
    return call.emit("LeakyRelu", [call.value("self")], {"alpha": float(call["negative_slope"])})


@translates("hardsigmoid")
def _hard_sigmoid(call: Call) -> Values:
    return call.emit("HardSigmoid", [call.value("self")], {"alpha": 1 / 6})


@translates("softplus")
def _softplus(call: Call) -> Values:
    if call["beta"] != 1:
        raise Untranslated
    return call.emit("Softplus", [call.value("self")])


@translates("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clip(call: Call) -> Values:
    bounds = [call.get(name, call.get(f"{name}_val")) for name in ("min", "max")]
    limits = [None if bound is None else _operand(call, bound) for bound in bounds]
    return call.emit("Clip", [call.value("self"), *limits])


@translates("_prelu_kernel", "prelu")
def _prelu(call: Call) -> Values:
    return call.emit("PRelu", [call.value("self"), call.value("weight")])


@translates("silu")
def _silu(call: Call) -> Values:
    data = call.value("self")
    return call.emit("Mul", [data, *call.emit("Sigmoid", [data])])


@translates("rsqrt")
def _rsqrt(call: Call) -> Values:
    return call.emit("Reciprocal", call.emit("Sqrt", [call.value("self")]))


def _binary(operator: str, *, swapped: bool = False) -> Operator:
    def translate(call: Call) -> Values:
        first = _operand(call, call["self"])
        second = _operand(call, call.get("other", call.get("exponent")))
        alpha = call.get("alpha")
        if alpha not in (None, 1):
            (second,) = call.emit("Mul", [second, _operand(call, alpha)])
        return call.emit(operator, [second, first] if swapped else [first, second])

    return translate


def _operand(call: Call, given: Any) -> ir.Value:
    if isinstance(given, torch.Tensor):
        return call.sink.value(given)
    if given is None or not call.made[0].dtype.is_floating_point:
        raise Untranslated
    return call.sink.constant(to_array(torch.tensor(given, dtype=call.made[0].dtype)))


for _operator, _name in {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow"}.items():
    translates(_name)(_binary(_operator))
translates("maximum")(_binary("Max"))
translates("minimum")(_binary("Min"))
translates("rsub")(_binary("Sub", swapped=True))


@translates("convolution", "_convolution", "convolution_overrideable")
def _convolution(call: Call) -> Values:
    inputs = [call.value("input"), call.value("weight")]
    if call["bias"] is not None:
        inputs.append(call.value("bias"))
    spatial = call["weight"].dim() - 2
    attributes: dict[str, Any] = {
        "strides": each(call["stride"], spatial),
        "pads": each(call["padding"], spatial) * 2,
        "dilations": each(call["dilation"], spatial),
        "group": call["groups"],
    }
    if not call["transposed"]:
        return call.emit("Conv", inputs, attributes)
    attributes["output_padding"] = each(call["output_padding"], spatial)
    return call.emit("ConvTranspose", inputs, attributes)


def each(numbers: Sequence[int], count: int) -> list[int]:
    """One number for each spatial axis; torch takes a single one for all."""
    return list(numbers) * count if len(numbers) == 1 else list(numbers)


@translates("addmm")
def _addmm(call: Call) -> Values:
    operands = [call.sink.value(call[name]) for name in ("mat1", "mat2", "self")]
    return call.emit("Gemm", operands, {"alpha": float(call["alpha"]), "beta": float(call["beta"])})


@translates("mm", "bmm", "matmul", "mv")
def _matmul(call: Call) -> Values:
    other = call.get("mat2", call.get("other", call.get("vec")))
    return call.emit("MatMul", [call.value("self"), _matrix(call.sink.value(other))])


def _matrix(value: ir.Value) -> ir.Value:
    """The one matrix that torch laid out for every sample, as it does where axes were swapped."""
    found = value
    while (producer := found.producer()) is not None and producer.op_type in ("Expand", "Reshape"):
        before = producer.inputs[0]
        shape, own = (None, None) if before is None else (before.shape, found.shape)
        if before is None or shape is None or own is None or list(shape)[-2:] != list(own)[-2:]:
            break
        found = before
    return found if found.shape is not None and len(found.shape) == 2 else value


@translates("linear")
def _linear(call: Call) -> Values:
    turned = call.emit("Transpose", [call.value("weight")], {"perm": [1, 0]})
    product = call.emit("MatMul", [call.value("input"), *turned])
    bias = call["bias"]
    return product if bias is None else call.emit("Add", [*product, call.sink.value(bias)])


@translates("t", "transpose", "permute")
def _transpose(call: Call) -> Values:
    rank = call["self"].dim()
    order = list(range(rank))
    if "dims" in call.arguments:
        order = [axis_of(dim, rank) for dim in call["dims"]]
    else:
        a, b = (axis_of(call.get(name, default), rank) for name, default in (("dim0", 0), ("dim1", 1)))
        if rank > 1:
            order[a], order[b] = b, a
    return call.emit("Transpose", [call.value("self")], {"perm": order})


@translates(
    "view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "flatten", "unflatten"
)
def _reshape(call: Call) -> Values:
    if "dtype" in call.arguments:
        raise Untranslated
    return call.emit("Reshape", [call.value("self"), call.ints(*call.made[0].shape)])


@translates("expand")
def _expand(call: Call) -> Values:
    return call.emit("Expand", [call.value("self"), call.ints(*call.made[0].shape)])


@translates("cat")
def _cat(call: Call) -> Values:
    parts = [call.sink.value(tensor) for tensor in call["tensors"] if tensor.numel() or tensor.dim() > 1]
    return call.emit("Concat", parts, {"axis": axis_of(call["dim"], call.made[0].dim())})


@translates("stack")
def _stack(call: Call) -> Values:
    axis = axis_of(call["dim"], call.made[0].dim())
    lifted = [call.emit("Unsqueeze", [call.sink.value(t), call.ints(axis)])[0] for t in call["tensors"]]
    return call.emit("Concat", lifted, {"axis": axis})


@translates("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk", "unsafe_chunk")
def _split(call: Call) -> Values:
    axis = axis_of(call["dim"], call.made[0].dim())
    sizes = call.ints(*(part.shape[axis] for part in call.made))
    return call.emit("Split", [call.value("self"), sizes], {"axis": axis}, outputs=len(call.made))


@translates("unbind")
def _unbind(call: Call) -> Values:
    axis = axis_of(call["dim"], call["self"].dim())
    sizes = call.ints(*[1] * len(call.made))
    parts = call.emit("Split", [call.value("self"), sizes], {"axis": axis}, outputs=len(call.made))
    return [call.emit("Squeeze", [part, call.ints(axis)])[0] for part in parts]


@translates("select")
def _select(call: Call) -> Values:
    index = call.sink.constant(np.array(call["index"], np.int64))
    axis = axis_of(call["dim"], call["self"].dim())
    return call.emit("Gather", [call.value("self"), index], {"axis": axis})


@translates("slice")
def _slice(call: Call) -> Values:
    axis = axis_of(call["dim"], call["self"].dim())
    bounds = (call["start"] or 0, 2**62 if call["end"] is None else call["end"])
    operands = [call.ints(number) for number in (*bounds, axis, call["step"])]
    return call.emit("Slice", [call.value("self"), *operands])


@translates("index_select")
def _index_select(call: Call) -> Values:
    operands = [call.value("self"), call.value("index")]
    return call.emit("Gather", operands, {"axis": axis_of(call["dim"], call["self"].dim())})


@translates("embedding")
def _embedding(call: Call) -> Values:
    return call.emit("Gather", [call.value("weight"), call.value("indices")])


@translates("_softmax", "softmax", "_safe_softmax")
def _softmax(call: Call) -> Values:
    axis = axis_of(call["dim"], call.made[0].dim())
    return call.emit("Softmax", [call.value("self")], {"axis": axis})


@translates("_log_softmax", "log_softmax")
def _log_softmax(call: Call) -> Values:
    axis = axis_of(call["dim"], call.made[0].dim())
    return call.emit("LogSoftmax", [call.value("self")], {"axis": axis})
