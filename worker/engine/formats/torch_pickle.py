"""Reads the pickles inside a TorchScript archive as data: opcodes are interpreted, nothing is ever called.

Classes and functions become `Named`, calls become `Call`, objects become `Instance`, storages become
`Storage`: enough to find every tensor and the attribute path it has in the module.
"""

import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from worker.engine.errors import InvalidModelError

_MOST_OPCODES = 5_000_000


@dataclass(frozen=True)
class Named:
    """A class or function by its name."""

    name: str


@dataclass(frozen=True, eq=False)
class Call:
    """What calling `function` on `arguments` would give."""

    function: str
    arguments: tuple[Any, ...]


@dataclass(eq=False)
class Instance:
    """An object of a class; `state` is what would be given to it."""

    name: str
    state: Any = None


@dataclass(frozen=True)
class Storage:
    """A run of `count` elements in the record `key`, of the type that the class `kind` names."""

    kind: str
    key: str
    count: int


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def since_mark(self) -> list[Any]:
        """Pop what was pushed after the last mark."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop_tuple(self, size: int) -> None:
        """Replace the top `size` values by their tuple."""
        items = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.stack.append(items)


def read_pickle(data: bytes) -> Any:
    """The value a pickle describes. `InvalidModelError` for opcodes that TorchScript does not write."""
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MOST_OPCODES:
                raise InvalidModelError("the TorchScript archive describes more than we read")
            if opcode.name == "STOP":
                return machine.stack.pop()
            _step(machine, opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError):
        raise InvalidModelError("the TorchScript archive's description of its tensors is damaged") from None
    raise InvalidModelError("the TorchScript archive's description of its tensors is cut off")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINUNICODE",
    "SHORT_BINSTRING",
    "BINSTRING",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
}
_PUTS, _GETS = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}


def _step(machine: _Machine, name: str, argument: Any) -> None:
    stack = machine.stack
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _LITERALS:
        stack.append(argument)
    elif name in _PUTS:
        machine.memo[argument] = stack[-1]
    elif name in _GETS:
        stack.append(machine.memo[argument])
    elif name == "GLOBAL":
        stack.append(Named(argument.replace(" ", ".")))
    elif name not in ("PROTO", "FRAME"):
        _ACTIONS[name](machine)


def _mark(machine: _Machine) -> None:
    machine.marks.append(len(machine.stack))


def _tuple(machine: _Machine) -> None:
    items = tuple(machine.since_mark())
    machine.stack.append(items)


def _appends(machine: _Machine) -> None:
    items = machine.since_mark()
    machine.stack[-1].extend(items)


def _append(machine: _Machine) -> None:
    item = machine.stack.pop()
    machine.stack[-1].append(item)


def _set_items(machine: _Machine) -> None:
    items = machine.since_mark()
    target = machine.stack[-1]
    target.update(_pairs(items))


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.stack[-1].update(_pairs([key, value]))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    """Keys and values in turn; keys that cannot be keys here (tensors) are kept apart by identity."""
    return {
        key if isinstance(key, str | int | float | bool) else f"<{id(key)}>": value
        for key, value in zip(items[::2], items[1::2], strict=True)
    }


def _reduce(machine: _Machine) -> None:
    arguments, function = machine.stack.pop(), machine.stack.pop()
    ordered = function.name == "collections.OrderedDict"
    machine.stack.append({} if ordered and not arguments else Call(function.name, tuple(arguments)))


def _new_object(machine: _Machine) -> None:
    machine.stack.pop()
    machine.stack.append(Instance(machine.stack.pop().name))


def _build(machine: _Machine) -> None:
    state = machine.stack.pop()
    machine.stack[-1].state = state


def _storage(machine: _Machine) -> None:
    word, kind, key, _, count, *_ = machine.stack.pop()
    if word != "storage" or not isinstance(count, int) or count < 0 or not isinstance(key, str):
        raise ValueError(word)
    machine.stack.append(Storage(kind.name, key, count))


def _pop(machine: _Machine) -> None:
    machine.stack.pop()


_ACTIONS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _mark,
    "TUPLE": _tuple,
    "TUPLE1": lambda machine: machine.pop_tuple(1),
    "TUPLE2": lambda machine: machine.pop_tuple(2),
    "TUPLE3": lambda machine: machine.pop_tuple(3),
    "EMPTY_LIST": lambda machine: machine.stack.append([]),
    "EMPTY_DICT": lambda machine: machine.stack.append({}),
    "APPENDS": _appends,
    "APPEND": _append,
    "SETITEMS": _set_items,
    "SETITEM": _set_item,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "BUILD": _build,
    "BINPERSID": _storage,
    "POP": _pop,
}


#: Calls that give lists and dictionaries their type; the value is their first argument.
_TYPED = "torch.jit._pickle."


def calls_with_paths(root: Any) -> Iterator[tuple[str, Call]]:
    """Every call that is reached from `root` with its dotted path; shared objects once for each path.

    An object is entered only once, so that a pickle which refers to itself ends.
    """
    waiting: list[tuple[str, Any]] = [("", root)]
    entered: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        while isinstance(value, Call) and value.function.startswith(_TYPED):
            value = value.arguments[0] if value.arguments else None
        if isinstance(value, Call):
            yield path, value
            children = (
                list(enumerate(value.arguments)) if not value.function.startswith("torch._utils") else []
            )
        else:
            children = _children(value)
        if not children or id(value) in entered:
            continue
        entered.add(id(value))
        waiting.extend((f"{path}.{name}" if path else str(name), child) for name, child in reversed(children))


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Instance):
        return _children(value.state)
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple):
        return list(enumerate(value))
    return []
