"""Taking channels out of a TorchScript module: smaller tensors, and code whose numbers fit them.

The code is followed once, the full and the smaller model side by side, and a number that counts channels is
replaced where it stands. Code without such numbers stays as it is; otherwise forward is saved with everything
it calls written out, for code that modules share may need different numbers in each.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.memory import raise_if_memory
from worker.engine.formats.torch_archive import TorchArchive
from worker.engine.formats.torch_follower import Follower, Kept, RunAgain, key_of
from worker.engine.formats.torch_gone import Lost, cut, lost
from worker.engine.formats.torch_interpreter import Interpreter, Pair, Unfollowed, tensors_in, walk
from worker.engine.formats.torch_module import first_line, load_as_saved, load_module, saved
from worker.engine.formats.torch_names import TensorNames
from worker.engine.formats.torch_statistics import Around, back
from worker.engine.formats.torch_unfused import write_out_in

#: Each run learns of one more padding that loses channels.
_MOST_RUNS = 100
#: Largest difference between both sides' outputs, relative to the largest magnitude.
_TOLERANCE = 1e-4
#: In half precision that is too little: so many roundings are allowed for.
_ROUNDINGS = 32
_HINT = 'use "apply": {"name": "mask"}, exclude the layers before that operator, or upload the model as ONNX'


def rewrite(path: Path, names: TensorNames, cuts: Mapping[str, Kept], examples: Sequence[Any]) -> bytes:
    """The module at `path` with the cuts made, as torch saves it.

    Raises InvalidRecipeError, with the operator, where its code cannot be made to fit.
    """
    archive = TorchArchive(path, sys.maxsize)
    names = names.over(archive)
    found = follow(path, names, cuts, examples)
    extra: dict[str, str | bytes] = dict.fromkeys(archive.extra_files, "")
    module = load_as_saved(path, "cpu", extra)
    follower = found.follower
    if found.unfused or found.tidy or follower.changes or follower.constants or follower.narrowed:
        own, _ = _inlined(module, tidy=found.tidy)
        nodes = _matching(found.graph, own)
        _look_at_less(own, nodes, follower.narrowed)
        _change_code(own, nodes, follower)
    apart = {id(tensor): (tensor, name) for name, tensor in _tensors(module, names, cuts)}
    for tensor, name in apart.values():
        tensor.data = cut(tensor, cuts[name])
    return saved(module, extra, mobile=archive.mobile)


def narrowed(path: Path, names: TensorNames, cuts: Mapping[str, Kept], examples: Sequence[Any]) -> bytes:
    """The module at `path` with all its channels, in which statistics are taken over those that stay.

    Nothing else of it is changed: neither its tensors nor its numbers. Raises as `rewrite` does.
    """
    archive = TorchArchive(path, sys.maxsize)
    found = follow(path, names.over(archive), cuts, examples)
    module = load_as_saved(path, "cpu", {})
    if found.follower.arounds:
        own, _ = _inlined(module, tidy=found.tidy)
        _look_at_less(own, _matching(found.graph, own), found.follower.arounds)
    return saved(module, {}, mobile=archive.mobile)


@dataclass(frozen=True)
class Followed:
    """What a run told, and the graph that was run."""

    follower: Follower
    graph: Any
    tidy: bool
    unfused: bool


def _inlined(module: Any, *, tidy: bool) -> tuple[Any, bool]:
    """The graph of forward with everything it calls written out, and whether fused operators were among that;
    `tidy` leaves out what nobody reads."""
    graph = module.forward.graph
    torch._C._jit_pass_inline(graph)
    if graph.findAllNodes("prim::fork"):
        torch._C._jit_pass_inline_fork_wait(graph)
        torch._C._jit_pass_inline(graph)
    unfused = write_out_in(graph)
    if tidy:
        torch._C._jit_pass_dce(graph)
    return graph, unfused


def follow(path: Path, names: TensorNames, cuts: Mapping[str, Kept], examples: Sequence[Any]) -> Followed:
    """Run the code once, both sides beside each other. Raises as `rewrite` does."""
    try:
        return _followed_as(path, names, cuts, examples, tidy=False)
    except InvalidRecipeError:  # perhaps in operators whose results nobody reads
        return _followed_as(path, names, cuts, examples, tidy=True)


def _followed_as(
    path: Path, names: TensorNames, cuts: Mapping[str, Kept], examples: Sequence[Any], *, tidy: bool
) -> Followed:
    module = load_module(path, "cpu")
    graph, unfused = _inlined(module, tidy=tidy)
    padding: dict[int, Lost] = {}
    for _ in range(_MOST_RUNS):
        follower = Follower(names, cuts, padding)
        try:
            outputs = _run(module, graph, follower, examples)
        except RunAgain:
            continue
        if not all(_alike(pair) for pair in outputs):
            raise _refusal("the code as a whole: the smaller model gives other outputs")
        return Followed(follower, graph, tidy, unfused)
    raise _refusal("its padding")


def _run(
    module: torch.jit.ScriptModule, graph: Any, follower: Follower, examples: Sequence[Any]
) -> list[Pair]:
    try:
        with torch.no_grad():
            return Interpreter(module, follower).run(graph, examples)
    except RunAgain:
        raise
    except Unfollowed as error:
        raise _refusal(str(error)) from None
    except Exception as error:  # operators of the file run here and may raise anything
        raise_if_memory(error)
        raise _refusal(f"{follower.at} ({first_line(error)})") from None


def _refusal(where: str) -> InvalidRecipeError:
    message = f"channels cannot be taken out of this TorchScript file: they are not followed through {where}"
    return InvalidRecipeError(message[:600], hint=_HINT)


def _alike(pair: Pair) -> bool:
    sides = zip(tensors_in([pair.full]), tensors_in([pair.small]), strict=True)
    return all(_same_output(full, small) for full, small in sides)


def _same_output(full: torch.Tensor, small: torch.Tensor) -> bool:
    """Whether the smaller side gives what the full side gives with the lost channels left out."""
    if full.shape != small.shape or lost(full):
        return False
    if not full.is_floating_point():
        return True
    largest = float(full.abs().nan_to_num(0.0, 0.0, 0.0).max()) if full.numel() else 0.0
    allowed = max(_TOLERANCE, _ROUNDINGS * torch.finfo(full.dtype).eps)
    return bool(torch.allclose(full, small, rtol=allowed, atol=allowed * largest, equal_nan=True))


def _matching(first: Any, second: Any) -> dict[int, Any]:
    """Nodes of the second graph by the first output of their twins in the first."""
    pairs = zip(walk(first), walk(second), strict=True)
    return {key_of(node): twin for node, twin in pairs if node.outputsSize()}


def _change_code(graph: Any, nodes: Mapping[int, Any], found: Follower) -> None:
    """Put the new numbers, each a constant of its own, before the operators that take them."""
    for key, change in found.changes.items():
        node = nodes[key]
        graph.setInsertPoint(node)
        for place, number in change.arguments.items():
            if change.operator is None:
                _put(graph, node, place, number, change.parts.get(place))
        if change.operator is not None:
            numbers = [graph.insertConstant(change.arguments[place]) for place in (1, 2)]
            _replace(node, graph.create(change.operator, [node.inputsAt(0), *numbers], 1))
    for key, constant in found.constants.items():
        graph.setInsertPoint(nodes[key])
        nodes[key].output().replaceAllUsesWith(graph.insertConstant(constant))
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_lint(graph)


def _put(graph: Any, node: Any, place: int, number: Any, parts: Sequence[int] | None) -> None:
    """A new number as an argument. Of a list that is put together in the code only the parts that change: the
    others may be sizes of the batch."""
    maker = node.inputsAt(place).node()
    if parts is None or maker.kind() != "prim::ListConstruct":
        node.replaceInput(place, graph.insertConstant(number))
        return
    listed = graph.create("prim::ListConstruct", list(maker.inputs()), 1)
    for part in parts:
        listed.replaceInput(part, graph.insertConstant(number[part]))
    listed.output().setType(maker.output().type())
    listed.insertBefore(node)
    node.replaceInput(place, listed.output())


def _look_at_less(graph: Any, nodes: Mapping[int, Any], arounds: Mapping[int, Around]) -> None:
    """Put the choices of indices before and behind the operators that sum up channels."""
    for key, around in arounds.items():
        node = nodes[key]
        graph.setInsertPoint(node)
        for place, number in around.constants.items():
            node.replaceInput(place, graph.insertConstant(number))
        for place, axis, indices in around.steps():
            numbers = [graph.insertConstant(axis), graph.insertConstant(indices)]
            node.replaceInput(place, _chosen(graph, node.inputsAt(place), numbers, before=node))
        for axis, stays in around.widen.items():
            numbers = [graph.insertConstant(axis), graph.insertConstant(back(stays))]
            result = next(node.outputs())
            wide = _chosen(graph, result, numbers, before=None)
            result.replaceAllUsesWith(wide)
            wide.node().replaceInput(0, result)
    torch._C._jit_pass_lint(graph)


def _chosen(graph: Any, value: Any, numbers: Sequence[Any], *, before: Any) -> Any:
    """The value's indices along an axis, before a node or right behind the one that makes it."""
    new = graph.create("aten::index_select", [value, *numbers], 1)
    new.output().setType(torch._C.TensorType.get())
    if before is None:
        new.insertAfter(value.node())
    else:
        new.insertBefore(before)
    return new.output()


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
