"""ONNX graphs as torch modules: what they compute, what they hold, what is seen inside, what is refused."""

import numpy as np
import pytest
import torch

from tests.engine.formats.graphs import by_runtime, gap, model, named, network
from tests.zoo.entry import ZOO
from tests.zoo.exporting import export, outputs
from worker.engine.errors import InvalidRecipeError, ModelNotRunnableError
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.graph_module import graph_module

RNG = np.random.default_rng(0)
DENSE = {
    "W": RNG.normal(size=(4, 4)).astype(np.float32),
    "B": RNG.normal(size=(4,)).astype(np.float32),
}


def dense(*names: str) -> dict[str, np.ndarray]:
    return {name: DENSE[name] for name in names}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "gpt2", "unet", "swin_t", "lstm_classifier"])
def test_networks_compute_what_their_authors_wrote_at_every_batch(name, exporter):
    path = export(name, exporter=exporter, opset=18 if exporter == "dynamo" else 17, dynamic_batch=True)
    module = graph_module(load(path, LoadOptions()))
    for batch in (1, 3):
        feeds = ZOO[name].inputs(batch=batch)
        with torch.no_grad():
            found = module(*(feeds[key] for key in module.input_names))
        for ours, theirs in zip(found, outputs(ZOO[name].make(), feeds), strict=True):
            assert gap(ours, theirs) < 2e-5


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 15, 18])
def test_every_opset_from_seven_on_is_followed(opset, tmp_path):
    text = "g (float[n,4] X) => (float[n,4] Y) { H = MatMul(X, W)  R = Add(H, B)  Y = Softmax<axis=1>(R) }"
    loaded = network(model(text, DENSE, opset), tmp_path)
    x = torch.randn(3, 4)
    assert gap(graph_module(loaded)(x)[0], by_runtime(tmp_path / "model.onnx", [x])[0]) < 1e-6


def test_weights_are_parameters_under_their_names(tmp_path):
    loaded = load(export("resnet18", fold=False), LoadOptions())
    module = graph_module(loaded)
    assert len(module.weights) == len(list(module.parameters())) > 20
    for value, parameter in module.weights.items():
        assert np.array_equal(parameter.detach().numpy(), loaded.read(value))
        assert module.get_parameter(value.name.replace(".", "/")) is parameter
    assert len(module.running) == 40
    assert not set(module.running) & set(module.weights)
    kept = {name for name, _ in module.named_parameters()} | {
        v.name.replace(".", "/") for v in module.running
    }
    assert set(module.state_dict()) == kept


def test_a_weight_that_several_nodes_share_is_one_parameter(tmp_path):
    body = "H = MatMul(X, W)  T = Transpose<perm=[1,0]>(W)  Y = MatMul(H, T)"
    text = f"g (float[n,4] X) => (float[n,4] Y) {{ {body} }}"
    module = graph_module(network(model(text, dense("W")), tmp_path))
    (parameter,) = module.parameters()
    x = torch.randn(3, 4)
    module(x)[0].sum().backward()
    w = torch.tensor(DENSE["W"], requires_grad=True)
    (x @ w @ w.T).sum().backward()
    assert torch.allclose(parameter.grad, w.grad, rtol=1e-4, atol=1e-5)


#: Graph body (X is [n,4], Y the output), initializers, names of the weights among them.
ROLES = {
    "bias": ("H = MatMul(X, W) Y = Add(H, B)", dense("W", "B"), {"W", "B"}),
    "single bias": (
        "H = MatMul(X, W) Y = Add(H, b)",
        {"W": DENSE["W"][:, :1], "b": np.ones(1, np.float32)},
        {"W", "b"},
    ),
    "epsilon": ("H = Abs(X) S = Add(H, e) Y = Sqrt(S)", {"e": np.full(1, 1e-5, np.float32)}, set()),
    "scalar": ("Y = Mul(X, s)", {"s": np.float32(2)[()].reshape(())}, set()),
    "bounds": ("Y = Clip(X, a, b)", {"a": np.float32(-1).reshape(()), "b": np.float32(1).reshape(())}, set()),
    "attention mask": (
        "Y = Add(X, m)",
        {"m": np.where(np.eye(4)[:1] > 0, 0, -1e9).astype(np.float32)},
        set(),
    ),
    "mask of ones": ("Y = Mul(X, m)", {"m": np.eye(4, dtype=np.float32)[:1]}, set()),
    "layer scale": ("Y = Mul(X, B)", dense("B"), {"B"}),
    "mean of images": ("Y = Sub(X, B)", dense("B"), set()),
    "norm": ("Y = LayerNormalization<axis=-1>(X, B)", dense("B"), {"B"}),
    "handed on": (
        "T = Transpose<perm=[1,0]>(W) C = Cast<to=1>(T) Y = MatMul(X, C)",
        dense("W"),
        {"W"},
    ),
    "integers": ("C = Cast<to=1>(q) Y = MatMul(X, C)", {"q": np.eye(4, dtype=np.int8)}, set()),
}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_trained_is_what_layers_weigh_with(role, tmp_path):
    body, weights, trained = ROLES[role]
    loaded = network(model(f"g (float[n,4] X) => (float[n,m] Y) {{ {body} }}", weights), tmp_path)
    module = graph_module(loaded)
    assert {value.name for value in module.weights} == trained
    x = torch.rand(3, 4)
    assert gap(module(x)[0], by_runtime(tmp_path / "model.onnx", [x])[0]) < 1e-6


def test_embeddings_are_trained_and_get_gradients(tmp_path):
    text = "g (int64[n] I) => (float[n,4] Y) { Y = Gather(W, I) }"
    module = graph_module(network(model(text, dense("W")), tmp_path))
    module(torch.tensor([1, 1, 3]))[0].sum().backward()
    (parameter,) = module.parameters()
    assert parameter.grad[:, 0].tolist() == [0, 2, 0, 1]


FUNCTION = """
g (float[n,4] X) => (float[n,4] Y) { H = own.scaled<factor=2.0>(X, W)  Y = own.scaled<factor=3.0>(H, W) }
<domain: "own", opset_import: ["" : 17]>
scaled<factor: float>(A, V) => (B) {
  f = Constant<value_float: float=@factor>()
  P = MatMul(A, V)
  M = Mul(P, f)
  B = Relu(M)
}
"""


def test_functions_of_the_file_are_put_in_line_with_their_attributes(tmp_path):
    loaded = network(model(FUNCTION, dense("W")), tmp_path)
    module = graph_module(loaded)
    x, w = torch.randn(3, 4), torch.tensor(DENSE["W"])
    wanted = torch.relu(torch.relu(x @ w * 2) @ w * 3)
    assert gap(module(x)[0], wanted) < 1e-6
    assert gap(wanted, by_runtime(tmp_path / "model.onnx", [x])[0]) < 1e-6
    assert len(list(module.parameters())) == 1


BRANCH = """
g (float[n,4] X, bool c) => (float[n,4] Y) {
  H = MatMul(X, W)
  Y = If(c) <
    then_branch = t () => (float[n,4] T) { T = Add(H, B) },
    else_branch = e () => (float[n,4] E) { E = MatMul(H, W) }
  >
}
"""


@pytest.mark.parametrize("condition", [True, False])
def test_bodies_see_what_is_around_them_and_gradients_pass(condition, tmp_path):
    loaded = network(model(BRANCH, DENSE), tmp_path)
    module = graph_module(loaded)
    inputs = [torch.randn(3, 4), torch.tensor(condition)]
    found = module(*inputs)[0]
    assert gap(found, by_runtime(tmp_path / "model.onnx", inputs)[0]) < 1e-6
    found.sum().backward()
    by_name = {value.name: parameter for value, parameter in module.weights.items()}
    assert by_name["W"].grad is not None
    assert (by_name["B"].grad is not None) == condition


def test_inner_values_are_seen_anew_by_every_call_and_pass_gradients(tmp_path):
    text = "g (float[n,4] X) => (float[n,4] Y) { H = MatMul(X, W)  R = Relu(H)  S = Shape(R) Y = Mul(R, B) }"
    loaded = network(model(text, DENSE), tmp_path)
    module = graph_module(loaded)
    x, y = torch.randn(3, 4), torch.randn(2, 4)
    hidden, rectified = named(loaded, "H"), named(loaded, "R")
    with module.watching([hidden, rectified, named(loaded, "X"), named(loaded, "W")]) as seen:
        assert not len(seen)
        module(x)
        assert torch.equal(seen[named(loaded, "X")], x)
        assert gap(seen[hidden], x @ torch.tensor(DENSE["W"])) < 1e-6
        assert seen[named(loaded, "W")] is next(iter(module.weights.values()))
        output = module(y)[0]
        (gradient,) = torch.autograd.grad(output.sum(), seen[rectified])
        assert torch.allclose(gradient, torch.tensor(DENSE["B"]).expand(2, 4))
        last = seen[hidden]
    module(x)
    assert seen[hidden] is last
    with pytest.raises(InvalidRecipeError, match="no value"), module.watching([named_elsewhere(tmp_path)]):
        pass


def named_elsewhere(folder):
    (folder / "other").mkdir()
    return named(network(model("g (float[4] X) => (float[4] Y) { Y = Relu(X) }"), folder / "other"), "Y")


def test_values_are_let_go_after_their_last_reader(tmp_path):
    module = graph_module(load(export("resnet18"), LoadOptions()))
    plan = module._plan
    alive: set[int] = set(plan.inputs)
    most = 0
    for step in plan.steps:
        assert not set(step.operands) & (set().union(*(s.results for s in plan.steps)) - alive)
        alive |= set(step.results)
        most = max(most, len(alive))
        alive -= set(step.dead)
    assert alive == set(plan.outputs)
    assert most <= 4


@pytest.mark.parametrize("name", ["resnet18", "attention_split", "lstm_classifier"])
def test_gradients_of_whole_networks_agree_with_finite_differences(name):
    module = graph_module(
        load(export(name, fold=False, dynamic_batch=True), LoadOptions()), dtype=torch.float64
    )
    feeds = ZOO[name].inputs(batch=2)
    inputs = [one.double() if one.is_floating_point() else one for one in feeds.values()]
    assert all(one.dtype == torch.float64 for one in module(*inputs))
    assert all(one.dtype == torch.float64 for one in module.parameters())
    chosen = dict(list(module.named_parameters())[:4])

    def of(*tensors: torch.Tensor) -> torch.Tensor:
        given = dict(zip(chosen, tensors, strict=True))
        return torch.func.functional_call(module, given, tuple(inputs))[0].square().mean()

    assert torch.autograd.gradcheck(
        of, tuple(chosen.values()), eps=1e-6, atol=1e-6, rtol=1e-3, fast_mode=True
    )


@pytest.mark.parametrize(("name", "exporter"), [("resnet18", "torchscript"), ("vit_b_16", "dynamo")])
def test_compiled_as_one_graph_whatever_the_batch(name, exporter):
    path = export(name, exporter=exporter, opset=18 if exporter == "dynamo" else 17, dynamic_batch=True)
    module = graph_module(load(path, LoadOptions()))
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager", dynamic=True)
    for batch in (2, 5):
        feeds = ZOO[name].inputs(batch=batch)
        module.zero_grad()
        (wanted,) = module(*feeds.values())
        wanted.square().mean().backward()
        gradients = [parameter.grad for parameter in module.parameters()]
        module.zero_grad()
        (found,) = compiled(*feeds.values())
        found.square().mean().backward()
        assert gap(found, wanted.detach()) < 1e-5
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            assert torch.allclose(parameter.grad, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max())


def test_what_is_not_covered_is_refused_by_name(tmp_path):
    text = "g (float[n,4] X) => (float[n,4] Y) { H = own.Strange(X)  R = Relu(H)  Y = own.Odd(R) }"
    with pytest.raises(InvalidRecipeError, match=r"own\.Odd, own\.Strange"):
        graph_module(network(model(text), tmp_path))


def test_opsets_older_than_seven_are_refused(tmp_path):
    text = "g (float[n,4] X) => (float[n,4] Y) { Y = Relu(X) }"
    with pytest.raises(InvalidRecipeError, match="opset 6"):
        graph_module(network(model(text, opset=6), tmp_path))


def test_a_failing_node_is_named(tmp_path):
    text = "g (float[n,m] X) => (float[n,4] Y) { H = Relu(X)  Y = MatMul(H, W) }"
    made = model(text, dense("W"))
    made.graph.node[1].name = "the product"
    module = graph_module(network(made, tmp_path))
    with pytest.raises(ModelNotRunnableError, match="MatMul 'the product'"):
        module(torch.randn(2, 5))
