"""Fused attention written out gives what the fused operator gives, with and without masks."""

import pytest
import torch
from torch import Tensor, nn

from tests.engine.formats.files import quietly, reloaded, save_jit, save_script, traced
from worker.engine.formats.torch_module import load_module
from worker.engine.formats.torch_unfused import write_out

FUSED = ("_transformer_encoder_layer_fwd", "_native_multi_head_attention")


class Encoder(nn.Module):
    """Two layers that torch runs as two operators."""

    def __init__(self, *, norm_first: bool, activation: str) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            16, 4, 24, batch_first=True, norm_first=norm_first, activation=activation
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Attention(nn.Module):
    """Of a sequence with itself; some keys may be hidden."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        made, weights = self.inner(x, x, x, key_padding_mask=hidden)
        return made, torch.zeros(1) if weights is None else weights


def fused_in(module: torch.jit.ScriptModule) -> int:
    graph = module.inlined_graph
    return sum(len(graph.findAllNodes(f"aten::{name}")) for name in FUSED)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layers(tmp_path, norm_first, activation):
    module = Encoder(norm_first=norm_first, activation=activation).eval()
    x = torch.rand(3, 5, 16)
    with torch.no_grad():
        path = save_jit(traced(module, x), tmp_path / "m.pt")
        written = load_module(path, "cpu")
        assert fused_in(written)
        write_out(written)
        assert not fused_in(written)
        torch.testing.assert_close(quietly(written, x), module(x), rtol=1e-4, atol=1e-5)


def test_hidden_keys(tmp_path):
    path = save_script(Attention(), tmp_path / "m.pt")
    x, hidden = torch.rand(2, 5, 16), torch.arange(5).expand(2, 5) > torch.tensor([[2], [3]])
    written = load_module(path, "cpu")
    assert fused_in(written)
    write_out(written)
    assert not fused_in(written)
    with torch.no_grad():
        for found, wanted in zip(quietly(written, x, hidden), reloaded(path)(x, hidden), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_code_without_them_stays_as_it_is(tmp_path):
    path = save_script(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), tmp_path / "m.pt")
    written = load_module(path, "cpu")
    write_out(written)
    assert written.code == reloaded(path).code
