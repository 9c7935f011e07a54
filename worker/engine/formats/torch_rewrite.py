"""Taking channels out of a TorchScript module: smaller tensors, and code whose numbers fit them.

The code is followed once, the full and the smaller model side by side, and a number that counts channels is
replaced where it stands. Code without such numbers stays as it is; otherwise forward is saved with everything
it calls written out, for code that modules share may need different numbers in each.
"""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.base import Array
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.torch_archive import TorchArchive
from worker.engine.formats.torch_counts import RULES, Change, Site
from worker.engine.formats.torch_gone import SUMMING, all_lost, cut, left_of, marked, remarked, shape_left
from worker.engine.formats.torch_interpreter import Interpreter, Observer, Pair, Unfollowed, call, tensors_in
from worker.engine.formats.torch_module import first_line, load_module
from worker.engine.formats.torch_names import TensorNames

Kept = Mapping[int, Array]

#: Largest difference between both sides' outputs, relative to the largest magnitude.
_TOLERANCE = 1e-4
_HINT = 'use "apply": {"name": "mask"}, exclude the layers before that operator, or upload the model as ONNX'


@final
@dataclass
class _Follower(Observer):
    """Knows the cuts of stored tensors and finds what must change in the code."""

    names: TensorNames
    cuts: Mapping[str, Kept]
    changes: dict[int, tuple[Any, Change]] = field(default_factory=dict)
    constants: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    numbers: set[int] = field(default_factory=set)
    at: str = ""

    def stored(self, path: str, tensor: torch.Tensor) -> Pair:
        return _cut_pair(tensor, self.cuts.get(self.names.canonical(path) or "", {}))

    def constant(self, node: Any, tensor: torch.Tensor) -> Pair:
        name = self.names.constant(tensor.detach().numpy()) if tensor.layout == torch.strided else None
        pair = _cut_pair(tensor, self.cuts.get(name or "", {}))
        if not tensor.dim():
            self.numbers.add(_key(node))
        if name in self.cuts:
            self.constants[_key(node)] = (node, pair.small)
        return pair

    def operator(self, node: Any, arguments: Sequence[Pair]) -> Sequence[Pair]:
        self.at = kind = node.kind()
        full, small = [pair.full for pair in arguments], [pair.small for pair in arguments]
        heal = SUMMING.get(kind)
        made = call(node, heal(full) if heal is not None else full)
        change = self._change(kind, Site([pair.full for pair in arguments], small, tensors_in(made)))
        found = self._smaller(node, small, change)
        pairs = [self._pair(node, *sides, full) for sides in zip(made, found, strict=True)]
        return [self._number(node, *pairs)] if len(pairs) == 1 else pairs

    def _number(self, node: Any, pair: Pair) -> Pair:
        """A number that the code computed from counts of channels alone, 1/√width say, stays what it was."""
        if isinstance(pair.full, torch.Tensor):
            sources = [value for value in node.inputs() if str(value.type()) == "Tensor"]
            if any(value.unique() not in self.numbers for value in sources) or pair.full.dim():
                return pair
            self.numbers.add(_key(node))
            whole = not pair.full.is_floating_point()
        else:
            whole = not isinstance(pair.full, float)
        if whole or bool(pair.full == pair.small):
            return pair
        self.constants[_key(node)] = (node, pair.full)
        return Pair(pair.full, pair.full)

    def _change(self, kind: str, site: Site) -> Change | None:
        rule = RULES.get(kind)
        takes_tensor = bool(site.full) and isinstance(site.full[0], torch.Tensor)
        return rule(site) if rule is not None and takes_tensor else None

    def _smaller(self, node: Any, small: list[Any], change: Change | None) -> list[Any]:
        if change is None:
            if node.outputsSize() and _key(node) in self.changes:
                raise Unfollowed(f"{node.kind()} in a loop")
            return call(node, small)
        known = self.changes.setdefault(_key(node), (node, change))[1]
        if not _same(known, change):
            raise Unfollowed(f"{node.kind()} in a loop")
        return _called(node, small, change)

    def _pair(self, node: Any, full: Any, small: Any, arguments: Sequence[Any]) -> Pair:
        """Both sides of a result, of fitting shapes."""
        if isinstance(full, torch.Tensor) and full.is_floating_point() and not _vanished(full, small):
            if list(small.shape) != shape_left(full):
                full = remarked(full, arguments)
            if list(small.shape) != shape_left(full):
                raise Unfollowed(node.kind())
        return Pair(full, small)


def _vanished(full: torch.Tensor, small: torch.Tensor) -> bool:
    """Whether nothing is left: a part all of whose channels went."""
    return not small.numel() and all_lost(full)


def _cut_pair(tensor: torch.Tensor, kept: Kept) -> Pair:
    return Pair(marked(tensor, kept), cut(tensor, kept))


def _key(node: Any) -> int:
    key: int = next(iter(node.outputs())).unique()
    return key


def _called(node: Any, small: Sequence[Any], change: Change) -> list[Any]:
    """The call of the smaller side with its own numbers."""
    if change.operator == "aten::split_with_sizes":
        return [list(torch.split(small[0], change.arguments[1], change.arguments[2]))]
    if change.operator == "aten::index_select":
        return [small[0].index_select(change.arguments[1], change.arguments[2])]
    arguments = [change.arguments.get(place, value) for place, value in enumerate(small)]
    return call(node, arguments)


def _same(first: Change, second: Change) -> bool:
    if first.operator != second.operator or first.arguments.keys() != second.arguments.keys():
        return False
    pairs = [(first.arguments[key], second.arguments[key]) for key in first.arguments]
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def rewrite(path: Path, names: TensorNames, cuts: Mapping[str, Kept], examples: Sequence[Any]) -> bytes:
    """The module at `path` with the cuts made, as torch saves it.

    Raises InvalidRecipeError, with the operator, where its code cannot be made to fit.
    """
    archive = TorchArchive(path, sys.maxsize)
    names = names.over(archive)
    try:
        found = _followed(path, _Follower(names, cuts), examples, tidy=False)
    except InvalidRecipeError:  # perhaps in operators whose results nobody reads
        found = _followed(path, _Follower(names, cuts), examples, tidy=True)
    extra = dict.fromkeys(archive.extra_files, "")
    saved: Any = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
    if found.tidy or found.follower.changes or found.follower.constants:
        own = _inlined(saved, tidy=found.tidy)
        _change_code(own, _matching(found.graph, own), found.follower)
    for name, tensor in {
        id(tensor): (name, tensor) for name, tensor in _tensors(saved, names, cuts)
    }.values():
        tensor.data = cut(tensor, cuts[name])
    return _saved(saved, extra, mobile=archive.mobile)


@dataclass(frozen=True)
class _Followed:
    """What a run told, and the graph that was run."""

    follower: _Follower
    graph: Any
    tidy: bool


def _inlined(module: Any, *, tidy: bool) -> Any:
    """The graph of forward with everything it calls written out; `tidy` leaves out what nobody reads."""
    graph = module.forward.graph
    torch._C._jit_pass_inline(graph)
    if tidy:
        torch._C._jit_pass_dce(graph)
    return graph


def _followed(path: Path, follower: _Follower, examples: Sequence[Any], *, tidy: bool) -> _Followed:
    module = load_module(path, "cpu")
    graph = _inlined(module, tidy=tidy)
    try:
        with torch.no_grad():
            outputs = Interpreter(module, follower).run(graph, examples)
    except Unfollowed as error:
        raise _refusal(str(error)) from None
    except Exception as error:  # operators of the file run here and may raise anything
        raise_if_memory(error)
        raise _refusal(f"{follower.at} ({first_line(error)})") from None
    for pair in outputs:
        sides = zip(tensors_in([pair.full]), tensors_in([pair.small]), strict=True)
        if not all(_alike(full, small) for full, small in sides):
            raise _refusal("the code as a whole: the smaller model gives other outputs")
    return _Followed(follower, graph, tidy)


def _refusal(where: str) -> InvalidRecipeError:
    return InvalidRecipeError(
        f"channels cannot be taken out of this TorchScript file: they cannot be followed through {where}"[
            :600
        ],
        hint=_HINT,
    )


def _alike(full: torch.Tensor, small: torch.Tensor) -> bool:
    """Whether the smaller side gives what the full side gives with the lost channels left out."""
    if full.shape != small.shape or left_of(full).shape != full.shape:
        return False
    if not full.is_floating_point():
        return True
    largest = float(full.abs().nan_to_num(0.0, 0.0, 0.0).max()) if full.numel() else 0.0
    return bool(torch.allclose(full, small, rtol=_TOLERANCE, atol=_TOLERANCE * largest, equal_nan=True))


def _walk(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _walk(inner)


def _matching(first: Any, second: Any) -> dict[int, Any]:
    """Nodes of the second graph by the first output of their twins in the first."""
    pairs = zip(_walk(first), _walk(second), strict=True)
    return {_key(node): twin for node, twin in pairs if node.outputsSize()}


def _change_code(graph: Any, nodes: Mapping[int, Any], found: _Follower) -> None:
    """Put the new numbers, each a constant of its own, before the operators that take them."""
    for key, (_, change) in found.changes.items():
        node = nodes[key]
        graph.setInsertPoint(node)
        for place, number in change.arguments.items():
            if change.operator is None:
                node.replaceInput(place, graph.insertConstant(number))
        if change.operator is not None:
            numbers = [graph.insertConstant(change.arguments[place]) for place in (1, 2)]
            _replace(node, graph.create(change.operator, [node.inputsAt(0), *numbers], 1))
    for key, (_, constant) in found.constants.items():
        graph.setInsertPoint(nodes[key])
        nodes[key].output().replaceAllUsesWith(graph.insertConstant(constant))
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_lint(graph)


def _replace(node: Any, new: Any) -> None:
    new.insertBefore(node)
    new.output().setType(node.output().type())
    node.output().replaceAllUsesWith(new.output())
    node.destroy()


def _tensors(module: Any, names: TensorNames, cuts: Mapping[str, Kept]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the module that is cut, aliases each for itself, with its canonical name."""
    for path in names.paths():
        name = names.canonical(path)
        if name is not None and name in cuts:
            held = module
            for part in path.split("."):
                held = held[int(part)] if isinstance(held, list | tuple) else getattr(held, part)
            yield name, held


def _saved(module: Any, extra: Mapping[str, Any], *, mobile: bool) -> bytes:
    buffer = io.BytesIO()
    if mobile:
        return bytes(module._save_to_buffer_for_lite_interpreter(_extra_files=dict(extra)))
    torch.jit.save(module, buffer, _extra_files=dict(extra))
    return buffer.getvalue()
