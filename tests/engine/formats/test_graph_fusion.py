"""Steps that are taken together: fewer, the same numbers, and nothing hidden from those who watch."""

import numpy as np
import pytest
import torch

from tests.engine.formats.graphs import by_runtime, gap, model, named, network
from worker.engine.formats.graph_module import graph_module

RNG = np.random.default_rng(2)
CONSTANTS = {
    "r": np.float32(2**0.5).reshape(()),
    "i": np.float32(0.5**0.5).reshape(()),
    "one": np.float32(1).reshape(()),
    "half": np.float32(0.5).reshape(()),
    "listed": np.full(1, 0.5, np.float32),
    "W": RNG.normal(size=(4, 6)).astype(np.float32),
    "B": RNG.normal(size=6).astype(np.float32),
    "C": RNG.normal(size=1).astype(np.float32),
    "M": RNG.normal(size=(3, 6)).astype(np.float32),
}
GELU = ["D = Div(X, r)", "E = Erf(D)", "A = Add(E, one)"]
#: A graph's body and how many steps are left of it.
BODIES = {
    "gelu, halved last": ([*GELU, "P = Mul(X, A)", "Y = Mul(P, half)"], 1),
    "gelu, halved first": ([*GELU, "P = Mul(half, A)", "Y = Mul(P, X)"], 1),
    "gelu of a half": ([*GELU, "H = Mul(X, half)", "Y = Mul(H, A)"], 1),
    "gelu by multiplying": (["D = Mul(i, X)", *GELU[1:], "P = Mul(A, X)", "Y = Mul(P, listed)"], 1),
    "another number": ([*GELU, "P = Mul(X, A)", "Y = Mul(P, i)"], 5),
    "another operand": ([*GELU, "N = Neg(X)", "P = Mul(N, A)", "Y = Mul(P, half)"], 6),
    "read inside": ([*GELU, "P = Mul(X, A)", "Q = Mul(P, half)", "Y = Add(Q, E)"], 6),
    "product with a bias": (["H = MatMul(X, W)", "Y = Add(H, B)"], 1),
    "bias first": (["H = MatMul(X, W)", "Y = Add(B, H)"], 1),
    "bias of one number": (["H = MatMul(X, W)", "Y = Add(H, C)"], 2),
    "bias of rows": (["H = MatMul(X, W)", "Y = Add(H, M)"], 2),
    "product read twice": (["H = MatMul(X, W)", "Z = Add(H, B)", "Y = Mul(Z, H)"], 3),
}


@pytest.mark.parametrize("case", BODIES)
def test_fewer_steps_give_the_same(case, tmp_path):
    body, left = BODIES[case]
    text = f"g (float[3,4] X) => (float[3,n] Y) {{ {' '.join(body)} }}"
    used = {name: array for name, array in CONSTANTS.items() if f"({name}," in text or f", {name})" in text}
    loaded = network(model(text, used), tmp_path)
    module = graph_module(loaded)
    assert len(module._short.steps) == left
    assert len(module._plan.steps) == len(body)
    x = torch.randn(3, 4, requires_grad=True)
    found = module(x)[0]
    assert gap(found, by_runtime(tmp_path / "model.onnx", [x.detach()])[0]) < 1e-6
    first = named(loaded, body[0][0])
    with module.watching([first]) as seen:
        watched = module(x)[0]
        assert seen[first] is not None
    assert gap(found, watched.detach()) < 1e-6
    (ours,), (theirs,) = (torch.autograd.grad(one.square().sum(), x) for one in (found, watched))
    assert gap(ours, theirs) < 1e-5
