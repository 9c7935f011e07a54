"""The interpreter against torch itself: networks with branches, loops, lists and state in their code."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.engine.formats.files import frozen, reloaded, save_jit, save_script
from tests.zoo import ZOO, torchscript
from worker.engine.formats.torch_interpreter import Interpreter, Observer, Pair, Unfollowed, call
from worker.engine.formats.torch_module import load_module


class Onlooker(Observer):
    """Changes nothing; counts operators."""

    def __init__(self) -> None:
        self.operators = 0

    def stored(self, path: str, tensor: Tensor) -> Pair:
        return Pair(tensor, tensor)

    def constant(self, node: Any, tensor: Tensor) -> Pair:
        return Pair(tensor, tensor)

    def decision(self, node: Any, pair: Pair, read: Callable[[Any], Sequence[Pair]]) -> bool:
        return bool(pair.full)

    def operator(self, node: Any, arguments: Sequence[Pair]) -> Sequence[Pair]:
        self.operators += 1
        results = call(node, [pair.full for pair in arguments])
        return [Pair(result, result) for result in results]


def run(path, *examples: Any) -> tuple[list[Any], int]:
    module = load_module(path, "cpu")
    graph = module.forward.graph
    torch._C._jit_pass_inline(graph)
    onlooker = Onlooker()
    with torch.no_grad():
        return [pair.full for pair in Interpreter(module, onlooker).run(graph, examples)], onlooker.operators


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("name", ["instance_norm", "shuffle_depthwise", "gate_by_linear"])
def test_a_network_of_the_zoo_gives_what_it_gives_in_torch(name, script):
    path, inputs = torchscript(name, script=script), ZOO[name].inputs()
    (found,), operators = run(path, *inputs.values())
    with torch.no_grad():
        torch.testing.assert_close(found, load_module(path, "cpu")(*inputs.values()), rtol=0, atol=0)
    assert operators > 5


class Winding(nn.Module):
    """Loops, lists, tuples, dictionaries, strings, None and early ends."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.ModuleList([nn.Linear(4, 4) for _ in range(3)])
        self.scale: float | None = None

    def forward(self, x: Tensor, times: int = 3) -> tuple[Tensor, list[int]]:
        seen: list[int] = []
        for number in range(times):
            if number == 2:
                x = x * 2
            seen.append(x.size(0) + number)
        for step in self.steps:
            x = torch.relu(step(x)) if x.dim() == 2 else step(x)
        if self.scale is not None:
            x = x * self.scale
        first, rest = x.split([1, 3], dim=1)
        assert len(seen) == times, f"{len(seen)} of {times}"
        while x.sum() > 100:
            x = x / 2
        return torch.cat([first, rest], 1), seen


def test_winding_code_is_followed(tmp_path):
    path = save_script(Winding(), tmp_path / "m.pt")
    example = torch.rand(5, 4) * 100
    ((found, seen),), _ = run(path, example, 3)
    with torch.no_grad():
        expected, numbers = reloaded(path)(example, 3)
    assert torch.equal(found, expected)
    assert seen == numbers


def test_weights_in_the_code_are_seen(tmp_path):
    path = save_jit(frozen(nn.Sequential(nn.Linear(3, 2), nn.ReLU()).eval()), tmp_path / "m.pt")
    example = torch.rand(4, 3)
    (found,), _ = run(path, example)
    with torch.no_grad():
        assert torch.equal(found, reloaded(path)(example))


def test_inputs_are_not_written_to(tmp_path):
    path = save_script(nn.Sequential(nn.ReLU(inplace=True)), tmp_path / "m.pt")
    example = -torch.ones(3)
    run(path, example)
    assert torch.equal(example, -torch.ones(3))


class Failing(nn.Module):
    """Refuses what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 5:
            raise ValueError("five axes, please")
        return x


def test_an_exception_of_the_code_is_told(tmp_path):
    with pytest.raises(Unfollowed, match="RaiseException"):
        run(save_script(Failing(), tmp_path / "m.pt"), torch.rand(2))
