"""Runs an inlined TorchScript graph operator by operator, on two sides at once: the model as it is, and the
smaller one that is being made of it. Whoever wants to see or change what happens at an operator gives an
`Observer`.
"""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch


@dataclass(frozen=True)
class Pair:
    """One value of the graph on both sides."""

    full: Any
    small: Any


@dataclass(frozen=True)
class Part:
    """A module or another object of the file, and its attribute path."""

    path: str
    held: Any


class Unfollowed(Exception):  # noqa: N818 - becomes a refusal that a user can read
    """The graph does something that cannot be followed; the text names it."""


class Observer(abc.ABC):
    """Decides what tensors of the file are on both sides, and what each operator makes."""

    @abc.abstractmethod
    def stored(self, path: str, tensor: torch.Tensor) -> Pair:
        """The tensor at an attribute path."""

    @abc.abstractmethod
    def constant(self, node: Any, tensor: torch.Tensor) -> Pair:
        """A tensor that stands in the code."""

    @abc.abstractmethod
    def operator(self, node: Any, arguments: Sequence[Pair]) -> Sequence[Pair]:
        """The results of an operator."""

    @abc.abstractmethod
    def decision(self, node: Any, pair: Pair, read: Callable[[Any], Sequence[Pair]]) -> bool:
        """Which way an If goes; `node` is the If, its condition is the pair, and `read` tells what a branch
        reads of what was made before it."""


_HELD: dict[str, Callable[..., Any]] = {
    "aten::len": len,
    "aten::list": list,
    "aten::__getitem__": lambda held, key: held[key],
    "aten::__contains__": lambda held, key: key in held,
    "aten::append": lambda held, item: (held.append(item), held)[1],
    "aten::_set_item": lambda held, key, item: held.__setitem__(key, item),
    "aten::extend": lambda held, items: held.extend(items),
    "aten::keys": lambda held: list(held.keys()),
    "aten::values": lambda held: list(held.values()),
    "aten::items": lambda held: list(held.items()),
    "aten::slice": lambda held, start, end, step: held[start:end:step],
    "aten::add": lambda first, second: first + second,
    "aten::eq": lambda first, second: first == second,
    "aten::ne": lambda first, second: first != second,
}
_OPERATORS: dict[str, Callable[..., Any]] = {
    "aten::format": lambda text, *values: text.format(*values),
    "aten::warn": lambda *_: None,
    "aten::__is__": lambda first, second: first is second,
    "aten::__isnot__": lambda first, second: first is not second,
    "aten::__not__": lambda value: not value,
    "aten::IntImplicit": int,
    "aten::FloatImplicit": float,
    "aten::ScalarImplicit": lambda value: value.item(),
    "aten::Int": int,
    "aten::Float": float,
    "aten::Bool": bool,
    "prim::NumToTensor": torch.tensor,
    "prim::unchecked_cast": lambda value: value,
    "prim::unchecked_unwrap_optional": lambda value: value,
    "aten::_unwrap_optional": lambda value: value,
    "prim::ListConstruct": lambda *items: list(items),
    "prim::TupleConstruct": lambda *items: items,
    "prim::ListUnpack": tuple,
    "prim::TupleUnpack": tuple,
    "prim::DictConstruct": lambda *items: dict(zip(items[::2], items[1::2], strict=True)),
    "prim::TupleIndex": lambda held, key: held[key],
    "prim::dtype": lambda tensor: tensor.dtype,
    "prim::device": lambda tensor: tensor.device,
    "prim::layout": lambda tensor: tensor.layout,
    "prim::is_cuda": lambda tensor: tensor.is_cuda,
    "prim::data": lambda tensor: tensor.data,
    "prim::Uninitialized": lambda: None,
}
#: What is the same for all inputs that a model is made for; the length of a list of sizes is a rank.
_OPTIONS = {
    "prim::GetAttr",
    "prim::Constant",
    "prim::dtype",
    "aten::dim",
    "aten::len",
    "aten::__is__",
    "aten::__isnot__",
}
_MANY = {"prim::ListUnpack", "prim::TupleUnpack"}


def call(node: Any, arguments: Sequence[Any]) -> list[Any]:
    """What an operator makes of its arguments, on one side. Raises whatever torch raises."""
    kind = node.kind()
    own = _HELD.get(kind) if arguments and isinstance(arguments[0], list | dict | str) else None
    own = own or _OPERATORS.get(kind)
    if own is not None:
        made = own(*arguments)
        return list(made) if kind in _MANY else [made][: node.outputsSize()]
    schema = node.schema()
    if schema.startswith("("):
        raise Unfollowed(kind)
    name, _, overload = schema.split("(")[0].partition(".")
    operation, names, positional = _operation(name, overload)
    named = dict(zip(names[positional:], arguments[positional:], strict=False))
    made = operation(*arguments[:positional], **named)
    return list(made) if isinstance(made, tuple) else [made]


@cache
def _operation(name: str, overload: str) -> tuple[Callable[..., Any], tuple[str, ...], int]:
    """The operation, the names of its arguments, and how many of them go by position."""
    arguments = torch._C._get_schema(name, overload).arguments
    positional = sum(not argument.kwarg_only for argument in arguments)
    operation, *_ = torch._C._get_operation_overload(name, overload)
    return operation, tuple(argument.name for argument in arguments), positional


@final
class Interpreter:
    """Runs one graph. The module counts as being in evaluation mode, whatever its flags say."""

    def __init__(self, module: torch.jit.ScriptModule, observer: Observer) -> None:
        self._module, self._observer = module, observer
        self._known: dict[int, Pair] = {}
        self._state: dict[tuple[str, str], Pair] = {}

    def run(self, graph: Any, examples: Sequence[Any]) -> list[Pair]:
        """Outputs on both sides. Raises `Unfollowed` and whatever torch raises."""
        own, *inputs = graph.inputs()
        part = Part("", self._module)
        self._put(own, Pair(part, part))
        for value, example in zip(inputs, examples, strict=True):
            self._put(value, Pair(_copied(example), _copied(example)))
        self._block(graph.nodes())
        return [self._get(value) for value in graph.outputs()]

    def _put(self, value: Any, pair: Pair) -> None:
        self._known[value.unique()] = pair

    def _get(self, value: Any) -> Pair:
        return self._known[value.unique()]

    def _block(self, nodes: Iterator[Any]) -> None:
        for node in nodes:
            for value, pair in zip(node.outputs(), self._results(node), strict=True):
                self._put(value, pair)

    def _results(self, node: Any) -> Sequence[Pair]:
        kind = node.kind()
        if kind == "prim::Constant":
            constant = node.output().toIValue()
            if isinstance(constant, torch.Tensor):
                return [self._observer.constant(node, constant)]
            return [Pair(constant, constant)]
        arguments = [self._get(value) for value in node.inputs()]
        if kind == "prim::GetAttr":
            return [self._attribute(arguments[0].full, node.s("name"))]
        if kind == "prim::If":
            return self._branch(node, self._observer.decision(node, arguments[0], self._read))
        if kind == "prim::Loop":
            return self._loop(node, arguments)
        if kind == "prim::RaiseException":
            raise Unfollowed(kind)
        if kind == "prim::SetAttr":
            self._set(arguments[0].full, node.s("name"), arguments[1])
            return []
        return self._observer.operator(node, arguments)

    def _set(self, part: Part, name: str, pair: Pair) -> None:
        """State that a call leaves behind must be as wide as that which the next one expects."""
        before = self._attribute(part, name)
        if isinstance(pair.small, torch.Tensor) and isinstance(before.small, torch.Tensor):
            full, small = pair.full.shape == before.full.shape, pair.small.shape == before.small.shape
            if full != small:
                raise Unfollowed("prim::SetAttr")
        self._state[part.path, name] = pair

    def _attribute(self, part: Part, name: str) -> Pair:
        if (part.path, name) in self._state:
            return self._state[part.path, name]
        path = f"{part.path}.{name}" if part.path else name
        held = getattr(part.held, name)
        if isinstance(held, torch.Tensor):
            return self._observer.stored(path, held)
        if isinstance(held, list) and held and all(isinstance(item, torch.Tensor) for item in held):
            pairs = [self._observer.stored(f"{path}.{place}", item) for place, item in enumerate(held)]
            return Pair([pair.full for pair in pairs], [pair.small for pair in pairs])
        if held is None or isinstance(held, bool | int | float | str | list | tuple | dict | torch.device):
            held = False if name == "training" else held
            return Pair(held, held)
        if isinstance(held, torch.ScriptObject):
            return Pair(held, held)
        return Pair(Part(path, held), Part(path, held))

    def _branch(self, node: Any, condition: bool) -> list[Pair]:
        chosen, other = node.blocks()
        block = chosen if condition else other
        self._block(block.nodes())
        return [self._get(value) for value in block.outputs()]

    def _read(self, block: Any) -> list[Pair]:
        """What nodes of a block that was not run yet take from before it."""
        values = {value.unique() for node in walk(block) for value in node.inputs()}
        return [self._known[key] for key in values if key in self._known]

    def _loop(self, node: Any, arguments: Sequence[Pair]) -> list[Pair]:
        (body,) = node.blocks()
        trips, condition, carried = arguments[0], arguments[1], list(arguments[2:])
        count = 0
        while count < _decided(trips) and _decided(condition):
            number, *inputs = body.inputs()
            self._put(number, Pair(count, count))
            for value, pair in zip(inputs, carried, strict=True):
                self._put(value, pair)
            self._block(body.nodes())
            condition, *carried = [self._get(value) for value in body.outputs()]
            count += 1
        return carried


def _copied(example: Any) -> Any:
    """A model may write into its inputs."""
    return example.clone() if isinstance(example, torch.Tensor) else example


def _decided(pair: Pair) -> Any:
    """What decides where the run goes must be the same on both sides."""
    if pair.full != pair.small:
        raise Unfollowed("a decision that depends on the number of channels")
    return pair.full


def walk(block: Any) -> Iterator[Any]:
    """All nodes of a graph or block, inner ones behind the node that holds them."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from walk(inner)


def depends_on_data(value: Any) -> bool:
    """Whether a condition comes from the inputs or their sizes, not from the module and its options."""
    node = value.node()
    if node.kind() in _OPTIONS:
        return False
    if node.kind() in ("aten::size", "prim::Param") or str(value.type()) == "Tensor":
        return True
    return any(depends_on_data(operand) for operand in node.inputs())


def tensors_in(values: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
    """All tensors of some values, in order; lists are looked into."""
    found: list[Any] = []
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple | dict):
            found.extend(tensors_in(value))
    return found
