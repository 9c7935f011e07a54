"""Code that can be followed in parts: what it takes, and what is left where it is."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from api_schemas.jobs import InputSpec
from tests.engine.formats.files import reloaded, save_jit, save_script, scripted, traced
from tests.engine.formats.test_torch_rewrite import _no_stopwatch, halved, left, stored  # noqa: F401
from worker.engine.errors import NeedsInputsError
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.graph_module import graph_module
from worker.engine.graph.build import build
from worker.engine.pipeline import Source

FEATURES = {"x": InputSpec(shape=[2, 6, 8], dtype="float32")}


class Half(nn.Module):
    """Distances between features that nothing is known of beside layers that are followed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (
            nn.Linear(8, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 16),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        far = torch.cdist(y, y).mean()
        return self.d(torch.relu(self.c(torch.relu(self.b(y))))) + far


class Forked(nn.Module):
    """Work that is handed to another thread, and results in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 16), nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        later = torch.jit.fork(self.a, x)
        return {"out": self.c(torch.relu(torch.jit.wait(later) + self.b(x)))}


class Recurrent(nn.Module):
    """A state that may be given, and stays as wide as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.r, self.c = nn.Linear(8, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, h = self.r(torch.relu(self.a(x)), h)
        return self.c(y), h


class Heads(nn.Module):
    """Sizes of the batch in the same list as sizes of features."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.n = nn.Linear(8, 16), nn.Linear(16, 3), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.n(self.a(x))
        return self.b(y.view(x.size(0), 4, 3, 16).flatten(1, 2)) if x.size(1) == 12 else self.b(y)


def job(module: nn.Module, tmp_path, inputs=FEATURES):
    source = Source(save_script(module, tmp_path / "m.pt"), "m.pt", inputs=inputs)
    saved, report = halved(source, tmp_path)
    assert stored(saved) < stored(source.model)
    return saved, report


@pytest.mark.parametrize(("kind", "most"), [(Half, 0.8), (Forked, 0.55), (Recurrent, 0.95)])
def test_what_can_be_followed_goes(tmp_path, kind, most):
    _, report = job(kind(), tmp_path)
    assert left(report) <= most


def test_channels_that_are_not_followed_stay_whole(tmp_path):
    saved, _ = job(Half(), tmp_path)
    module = reloaded(saved)
    assert module.a.weight.shape == (16, 8)
    assert module.b.weight.shape[0] < 16


def test_sizes_of_the_batch_are_still_those_of_the_batch(tmp_path):
    saved, _ = job(Heads(), tmp_path, {"x": InputSpec(shape=[2, 12, 8], dtype="float32")})
    assert reloaded(saved)(torch.rand(5, 12, 8)).shape == (5, 12, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_proved_in_single(tmp_path, dtype):
    layers = [nn.Linear(8, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)]
    module = nn.Sequential(*layers).to(dtype).eval()
    path = save_jit(traced(module, torch.rand(2, 6, 8, dtype=dtype)), tmp_path / "m.pt")
    name = str(dtype).removeprefix("torch.")
    inputs = {"input": InputSpec(shape=[2, 6, 8], dtype=name)}
    _, report = halved(Source(path, "m.pt", inputs=inputs), tmp_path)
    proof = next(check for check in report.checks if check.name == "equals the masked model")
    assert "computed in float32" in proof.detail


def test_typed_lists_of_tensors_are_at_their_own_paths(tmp_path):
    path = save_jit(scripted(Recurrent().eval()), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=FEATURES))
    names = network._names
    flat = [name for name in names.paths() if name.startswith("r._flat_weights.")]
    assert [names.canonical(name) for name in flat[:2]] == ["r.weight_ih_l0", "r.weight_hh_l0"]
    assert all(name.count(".") == 2 for name in flat)
    assert np.array_equal(names.array("r.weight_ih_l0"), reloaded(path).r.weight_ih_l0.detach().numpy())


class Looped(nn.Module):
    """A cell that runs as often as there are steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        h, c = torch.zeros(x.size(0), 16), torch.zeros(x.size(0), 16)
        for step in range(x.size(1)):
            h, c = self.cell(x[:, step], (h, c))
        return self.out(h)


class Stepping(Looped):
    """The same behind features that may go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.cell = nn.Linear(8, 12), nn.LSTMCell(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.first(x))
        h, c = torch.zeros(x.size(0), 16), torch.zeros(x.size(0), 16)
        for step in range(x.size(1)):
            h, c = self.cell(y[:, step], (h, c))
        return self.out(h)


def test_what_a_cell_reads_goes_and_its_state_stays(tmp_path):
    saved, _ = job(Stepping(), tmp_path)
    module = reloaded(saved)
    assert module.cell.weight_ih.shape == (64, 6)
    assert module.cell.weight_hh.shape == (64, 16)


class Packed(nn.Module):
    """Sequences of lengths of their own, none of which may be zero."""

    def __init__(self) -> None:
        super().__init__()
        self.r, self.out = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (h, _) = self.r(packed)
        return self.out(h[-1])


LENGTHS = {**FEATURES, "lengths": InputSpec(shape=[2], dtype="int64")}


@pytest.mark.parametrize(("kind", "inputs"), [(Looped, FEATURES), (Packed, LENGTHS)])
def test_weights_in_loops_and_of_packed_sequences_are_layers(tmp_path, kind, inputs):
    network = load(save_script(kind(), tmp_path / "m.pt"), LoadOptions(inputs=inputs))
    assert network.structure_warning is None
    assert sum(layer.size for layer in build(network, inputs).layers) == 4 * 16 * (8 + 16) + 3 * 16


class Rated(nn.Module):
    """An argument that is a number, the same for all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, rate: int) -> Tensor:
        return self.b(torch.relu(self.a(x))) * rate


def test_arguments_with_a_value_for_good(tmp_path):
    _, report = job(Rated(), tmp_path, {**FEATURES, "rate": InputSpec(value=3)})
    assert "equals the masked model" in {check.name for check in report.checks}


def test_names_that_are_no_arguments(tmp_path):
    path = save_script(Rated(), tmp_path / "m.pt")
    with pytest.raises(NeedsInputsError, match="no input 'speed'; it has x, rate"):
        load(path, LoadOptions(inputs={**FEATURES, "speed": InputSpec(value=3)}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_graph_of_half_precision_computes_what_the_code_does(tmp_path, dtype):
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).to(dtype).eval()
    path = save_jit(traced(module, torch.rand(2, 8, dtype=dtype)), tmp_path / "m.pt")
    name = str(dtype).removeprefix("torch.")
    network = load(path, LoadOptions(inputs={"input": InputSpec(shape=[2, 8], dtype=name)}))
    (found,) = graph_module(network)(torch.ones(2, 8, dtype=dtype))
    torch.testing.assert_close(found.to(dtype), module(torch.ones(2, 8, dtype=dtype)), rtol=0.03, atol=0.03)


class Listed(nn.Module):
    """Takes a list of tensors, of which nobody can say how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, xs: list[Tensor]) -> Tensor:
        return self.b(torch.relu(self.a(xs[0])))


def test_layers_of_code_that_takes_lists_are_known(tmp_path):
    network = load(save_script(Listed(), tmp_path / "m.pt"), LoadOptions())
    assert not network.needs_inputs
    assert "xs is of type List[Tensor]" in (network.structure_warning or "")
    assert [layer.size for layer in build(network, {}).layers] == [8 * 16, 16 * 3]


def test_weights_that_are_computed_are_named(tmp_path):
    module = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(8, 16)), nn.ReLU()).eval()
    path = save_jit(traced(module, torch.rand(2, 8)), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs={"input": InputSpec(shape=[2, 8])}))
    assert "remove_parametrizations" in (network.structure_warning or "")
