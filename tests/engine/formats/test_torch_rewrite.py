"""Channels really gone from TorchScript files: code that counts them, code that does not, refusals."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from api_schemas.jobs import InputSpec
from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import Report
from tests.engine.formats.files import (
    SHARED,
    frozen,
    needs_shared,
    quietly,
    reloaded,
    save_jit,
    save_script,
    scripted,
    traced,
    value_named,
)
from tests.zoo import ZOO, export, torchscript
from tests.zoo.test_channels import BAR, CNNS
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats import LoadOptions, Network, load
from worker.engine.formats.edits import Cut, SetOperand
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

#: Small ones, each with something of its own: groups, shuffles, gates, scales, padding, code nobody reads.
CASES = (
    "resnet18 group_convolution depthwise_chain depthwise_multiplier transposed_convolution "
    "shuffle_depthwise gate_by_linear pad_channels split_uneven split_with_identity channel_gather "
    "view_before_linear unused_parameters shared_weight_other_place attention_split attention_fused "
    "prelu_per_channel instance_norm layer_scale convolution3d group_norm norm_after_linear attention_library"
).split()
SCRIPTED = "depthwise_chain split_uneven instance_norm gate_by_linear view_before_linear".split()


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is not what is tested here, and would take most of the time."""
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def halved(source: Source, folder: Path) -> tuple[Path, Report]:
    """A job that takes half of the channels; it fails when the smaller model is not the masked one."""
    request = {"preset": "lookahead_channels", "target": {"sparsity": 0.5}}
    recipe = resolve(RecipeRequest.model_validate(request), catalogue().preset_axes())
    (folder / "output").mkdir()
    saved, report = prune(source, recipe, folder / "output", Context(folder))
    assert {"inputs and outputs", "widths", "equals the masked model"} <= {c.name for c in report.checks}
    assert all(check.passed for check in report.checks)
    return saved, report


def from_zoo(name: str, *, script: bool = False) -> Source:
    inputs = {
        key: InputSpec(shape=list(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
        for key, tensor in ZOO[name].inputs().items()
    }
    return Source(torchscript(name, script=script), f"{name}.pt", inputs=inputs)


def left(report: Report) -> float:
    assert report.summary.parameters_before is not None
    assert report.summary.parameters_after is not None
    return report.summary.parameters_after / report.summary.parameters_before


def stored(path: Path) -> int:
    """Floating numbers in the file, whatever the report says."""
    module = reloaded(path)
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())


@pytest.mark.parametrize("name", CASES)
def test_half_of_the_channels_of_a_traced_network(name, tmp_path):
    source = from_zoo(name)
    saved, report = halved(source, tmp_path)
    assert left(report) < 1.0
    assert stored(saved) < stored(source.model)


@pytest.mark.parametrize("name", SCRIPTED)
def test_half_of_the_channels_of_a_compiled_network(name, tmp_path):
    source = from_zoo(name, script=True)
    saved, _ = halved(source, tmp_path)
    assert stored(saved) < stored(source.model)


#: Networks whose residual stream runs through layer norms, and what they keep of their parameters at most.
STREAMS = {"vit_small": 0.30, "convnext_tiny": 0.30, "swin_t": 0.40, "encoder_library": 0.32, "llama": 0.36}


@pytest.mark.slow
@pytest.mark.parametrize("name", STREAMS)
def test_streams_under_layer_norm_lose_channels(name, tmp_path):
    _, report = halved(from_zoo(name), tmp_path)
    assert left(report) <= STREAMS[name]
    proof = next(check for check in report.checks if check.name == "equals the masked model")
    assert "over the channels that stay" in proof.detail


@pytest.mark.slow
@pytest.mark.parametrize("name", CNNS)
def test_cnns_keep_no_more_than_as_onnx(name, tmp_path):
    _, report = halved(from_zoo(name), tmp_path)
    assert left(report) <= BAR


@pytest.mark.parametrize("name", ["shuffle_depthwise", "gate_by_linear"])
def test_as_many_parameters_stay_as_in_onnx(name, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "torch").mkdir()
    _, as_onnx = halved(Source(export(name, fold=False), f"{name}.onnx"), tmp_path / "onnx")
    _, as_torch = halved(from_zoo(name), tmp_path / "torch")
    assert left(as_torch) == pytest.approx(left(as_onnx), abs=1e-6)


@needs_shared
def test_a_scripted_classifier_from_the_wild(tmp_path):
    model = SHARED / "torchscript" / "cnn_mnist_scripted.pt"
    saved, report = halved(Source(model, model.name, inputs={"x": InputSpec(shape=[1, 1, 28, 28])}), tmp_path)
    assert left(report) < BAR
    assert saved.stat().st_size < model.stat().st_size * BAR
    assert reloaded(saved)(torch.zeros(5, 1, 28, 28)).shape == (5, 10)


@needs_shared
def test_a_bidirectional_lstm_from_the_wild(tmp_path):
    model = SHARED / "torchscript" / "reddit_bytelstm.pt"
    text = InputSpec(shape=[1, 20], dtype="int64")
    saved, report = halved(Source(model, model.name, inputs={"byte_input": text}), tmp_path)
    assert left(report) < 1.0
    assert stored(saved) < stored(model)


class Classifier(nn.Module):
    """A width written down as a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8 * 16, 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(image))).view(-1, 128))


class Plain(Classifier):
    """The same without the number."""

    def forward(self, image: Tensor) -> Tensor:
        return self.second(torch.relu(self.norm(self.first(image))).flatten(1))


IMAGE = {"image": [1, 3, 6, 6]}
KEPT = np.array([0, 3, 5])
READ = (KEPT[:, None] * 16 + np.arange(16)).reshape(-1)


def weights(module: nn.Module) -> nn.Module:
    """Every number of the module another one, variances positive."""
    generator = torch.Generator().manual_seed(1)
    for tensor in [*module.parameters(), *module.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) - (0.5 if tensor.dim() > 1 else -0.1)
    return module.eval()


def cuts(network: Network, kept: dict[str, dict[int, Sequence[int]]]) -> list[SetOperand]:
    """Edits by tensor name, as any reader of the tensor might ask for them."""
    edits = []
    for name, axes in kept.items():
        value = value_named(network, name)
        array = network.read(value)
        indices = {axis: np.array(indices) for axis, indices in axes.items()}
        for axis, index in indices.items():
            array = np.take(array, index, axis=axis)
        edits.append(SetOperand(next(iter(value.consumers())), 0, array, Cut(value, indices)))
    return edits


CUT = {
    "first.weight": {0: KEPT},
    "first.bias": {0: KEPT},
    **{f"norm.{name}": {0: KEPT} for name in ("weight", "bias", "running_mean", "running_var")},
    "second.weight": {1: READ},
}


def by_hand(module: nn.Module) -> nn.Module:
    """The module with every channel at zero that is not kept, just before it is read."""
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    gone = torch.ones(state["second.weight"].shape[1], dtype=torch.bool)
    gone[READ] = False
    state["second.weight"][:, gone] = 0
    same = type(module)()
    same.load_state_dict(state)
    return same.eval()


def smaller(path: Path, kept: dict[str, dict[int, Sequence[int]]] = CUT, **inputs: list[int]) -> Path:
    folder = path.parent / "smaller"
    folder.mkdir(exist_ok=True)
    network = load(path, LoadOptions(inputs=inputs or IMAGE))
    return network.rewritten(cuts(network, kept), folder).file


@pytest.mark.parametrize("make", [scripted, lambda module: traced(module, torch.rand(1, 3, 6, 6))])
@pytest.mark.parametrize("kind", [Classifier, Plain])
def test_what_is_left_is_what_was_kept(tmp_path, kind, make):
    module = weights(kind())
    file = smaller(save_jit(make(module), tmp_path / "m.pt"))
    found = reloaded(file).state_dict()
    for name, tensor in module.state_dict().items():
        for axis, indices in CUT.get(name, {}).items():
            tensor = tensor.index_select(axis, torch.from_numpy(indices))
        assert torch.equal(found[name], tensor), name
    images = torch.rand(4, 3, 6, 6)
    torch.testing.assert_close(reloaded(file)(images), by_hand(module)(images))


def test_code_that_counts_nothing_stays_as_it_is(tmp_path):
    path = save_script(weights(Plain()), tmp_path / "m.pt")
    assert reloaded(smaller(path)).code == reloaded(path).code


def test_code_that_counts_has_the_new_number(tmp_path):
    code = reloaded(smaller(save_script(weights(Classifier()), tmp_path / "m.pt"))).code
    assert "48]" in code
    assert "128" not in code


def test_weights_inside_the_code_are_cut(tmp_path):
    module = weights(Plain())
    path = save_jit(frozen(module), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=IMAGE))
    first, bias, *_ = (next(n for n in network.structure.graph if n.op_type == "Conv")).inputs[1:]
    gemm = next(n for n in network.structure.graph if n.op_type == "Gemm")
    by_place = {first.name: {0: KEPT}, bias.name: {0: KEPT}, gemm.inputs[1].name: {1: READ}}
    file = smaller(path, by_place)
    images = torch.rand(4, 3, 6, 6)
    torch.testing.assert_close(reloaded(file)(images), by_hand(module)(images), rtol=1e-4, atol=1e-5)
    assert file.stat().st_size < path.stat().st_size


def test_the_same_edits_give_the_same_bytes(tmp_path):
    path = save_script(weights(Classifier()), tmp_path / "m.pt")
    first = smaller(path).read_bytes()
    assert smaller(path).read_bytes() == first


def test_extra_files_and_the_training_flag_travel_along(tmp_path):
    module = weights(Classifier()).train()
    path = save_jit(scripted(module), tmp_path / "m.pt", **{"labels.txt": "cat\ndog"})
    extra = {"labels.txt": ""}
    found = reloaded(smaller(path), _extra_files=extra)
    assert extra["labels.txt"] == b"cat\ndog"
    assert found.training
    assert found.norm.training


def test_earlier_edits_are_in_the_smaller_file(tmp_path):
    path = save_script(weights(Classifier()), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=IMAGE))
    bias = value_named(network, "second.bias")
    network.write(bias, np.arange(5, dtype=np.float32))
    found = network.rewritten(cuts(network, CUT), tmp_path)
    assert found.read(value_named(found, "second.bias")).tolist() == [0, 1, 2, 3, 4]


class Sized(Classifier):
    """Another way for other batches, with a width in it."""

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(image)))
        if x.size(0) > 100:
            x = x.reshape(-1, 128)
        return self.second(x.flatten(1))


class Stateful(Classifier):
    """Leaves behind what it has made, as wide as its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 8, 4, 4))

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.first(image))
        self.last = x
        return self.second(torch.relu(x).flatten(1))


class Counting(Classifier):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.second(torch.relu(self.norm(self.first(image))).flatten(1))


class Made(Classifier):
    """Adds numbers that are made on the spot, as many as there are channels."""

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.first(image)) + torch.zeros(1, 8, 1, 1)
        return self.second(torch.relu(x).flatten(1))


@pytest.mark.parametrize(("kind", "reason"), [(Sized, "other inputs"), (Stateful, "SetAttr")])
def test_code_that_cannot_be_followed_is_refused_before_anything_is_written(tmp_path, kind, reason):
    path = save_script(weights(kind()), tmp_path / "m.pt")
    with pytest.raises(InvalidRecipeError, match=reason):
        smaller(path)
    assert list((tmp_path / "smaller").glob("smaller*")) == []


@pytest.mark.parametrize("kind", [Counting, Made])
def test_what_code_leaves_behind_and_makes_on_the_spot(tmp_path, kind):
    module = weights(kind())
    file = smaller(save_script(module, tmp_path / "m.pt"))
    images = torch.rand(4, 3, 6, 6)
    torch.testing.assert_close(reloaded(file)(images), by_hand(module)(images))


def test_readers_that_disagree_are_refused(tmp_path):
    network = load(save_script(weights(Plain()), tmp_path / "m.pt"), LoadOptions(inputs=IMAGE))
    both = [*cuts(network, CUT), *cuts(network, {"first.bias": {0: [1, 2, 3]}})]
    with pytest.raises(InvalidRecipeError, match=r"first\.bias"):
        network.rewritten(both, tmp_path)


def test_a_cut_that_leaves_a_reader_out_is_refused(tmp_path):
    path = save_script(weights(Plain()), tmp_path / "m.pt")
    with pytest.raises(InvalidRecipeError, match="batch_norm"):
        smaller(path, {name: axes for name, axes in CUT.items() if not name.startswith("norm")})


Move = Callable[[Tensor], Tensor]


def _swapped(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([second, first], 1)


def _parts(x: Tensor) -> Tensor:
    first, second, third = x.split([3, 7, 2], 1)
    return torch.cat([third, first, second], 1)


def _even(x: Tensor) -> Tensor:
    parts = x.split(5, 1)
    return torch.cat([parts[2], parts[0], parts[1]], 1)


ORDER = torch.tensor([3, 1, 0, 2, 11, 10, 9, 8, 7, 6, 5, 4])
MOVES: dict[str, Move] = {
    "chunk": _swapped,
    "split into sizes": _parts,
    "split into equals": _even,
    "slice": lambda x: torch.cat([x[:, 4:], x[:, 2:4], x[:, :-10]], 1),
    "narrow": lambda x: torch.cat([x.narrow(1, 6, 6), x.narrow(1, 0, 6)], 1),
    "index_select": lambda x: x.index_select(1, ORDER),
    "list of indices": lambda x: x[:, ORDER.flip(0)],
    "view": lambda x: x.view(-1, 12, 4).flip(2).reshape(-1, 12, 2, 2),
    "expand": lambda x: x[:1].expand(3, 12, 2, 2)[:2] + x * 0,
    "transpose": lambda x: x.transpose(1, 3).reshape(-1, 2, 2, 12).transpose(1, 3),
}


class Moved(nn.Module):
    """Channels made, moved, read."""

    def __init__(self, move: Move) -> None:
        super().__init__()
        self.first, self.second, self.move = nn.Conv2d(2, 12, 1), nn.Conv2d(12, 3, 1), move

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.move(self.first(image)))


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.sets(st.integers(0, 11), min_size=1, max_size=11).map(sorted))
@pytest.mark.parametrize("name", MOVES)
def test_numbers_follow_wherever_channels_are_moved(tmp_path, name, kept):
    """The oracle moves the channels' own numbers, and looks where those that stay have gone."""
    torch.manual_seed(0)
    module = Moved(MOVES[name]).eval()
    numbers = torch.arange(12.0).reshape(1, 12, 1, 1).expand(2, 12, 2, 2)
    places = np.flatnonzero(np.isin(MOVES[name](numbers)[0, :, 0, 0].numpy(), kept))
    path = save_jit(traced(module, torch.rand(2, 2, 2, 2)), tmp_path / "m.pt")
    cut = {"first.weight": {0: kept}, "first.bias": {0: kept}, "second.weight": {1: places}}
    found = reloaded(smaller(path, cut, image=[2, 2, 2, 2]))
    with torch.no_grad():
        gone = [unit for unit in range(12) if unit not in kept]
        module.first.weight[gone], module.first.bias[gone] = 0.0, 0.0
        images = torch.rand(2, 2, 2, 2)
        torch.testing.assert_close(quietly(found, images), module(images))
