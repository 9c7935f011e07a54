"""Half of the attention heads, over both exporters and several opsets; the job proves the smaller file."""

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from tests.zoo import DRAWINGS, Exporter, export
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

#: Without PyTorch's fused attention, which it exports from opset 14 on.
WRITTEN_OUT = ("deit_small", "swin_t", "bert", "gpt2", "attention_split")
NAMES = (
    *WRITTEN_OUT,
    *("vit_b_16", "llama", "encoder_library", "attention_fused", "attention_grouped", "attention_library"),
)
ROUTES: list[tuple[str, Exporter, int]] = [
    *((name, "torchscript", 13) for name in WRITTEN_OUT[:2]),
    *((name, "torchscript", 14 + place % 7) for place, name in enumerate(NAMES)),
    *((name, "dynamo", 18) for name in NAMES[2::3]),
    *((name, "dynamo", 23) for name in NAMES[3:]),
]


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def halved(file: Path, folder: Path) -> Path:
    request = RecipeRequest.model_validate({"preset": "lookahead_heads", "target": {"sparsity": 0.5}})
    (folder / "out").mkdir()
    recipe = resolve(request, catalogue().preset_axes())
    saved, report = prune(Source(file, file.name), recipe, folder / "out", Context(folder))
    assert all(check.passed for check in report.checks)
    assert "equals the masked model" in {check.name for check in report.checks}
    return saved


@pytest.mark.slow
@pytest.mark.parametrize(("name", "exporter", "opset"), ROUTES)
def test_half_of_the_heads(name: str, exporter: Exporter, opset: int, tmp_path: Path) -> None:
    file = export(name, exporter=exporter, opset=opset, dynamic_batch=opset not in (13, 18))
    saved = halved(file, tmp_path)

    def size(path: Path) -> int:
        return sum(len(tensor.raw_data) for tensor in onnx.load(path).graph.initializer)

    assert size(saved) < size(file)


MULTI_QUERY: list[tuple[Exporter, int]] = [("torchscript", 14), ("dynamo", 18), ("dynamo", 23)]


@pytest.mark.parametrize(("exporter", "opset"), MULTI_QUERY)
def test_one_key_head_stays_for_the_queries_that_stay(exporter: Exporter, opset: int, tmp_path: Path) -> None:
    file = export("attention_multi_query", exporter=exporter, opset=opset, dynamic_batch=True)
    before, after = (
        sorted(tuple(t.dims) for t in onnx.load(path).graph.initializer if len(t.dims) == 2)
        for path in (file, halved(file, tmp_path))
    )
    assert [size for size in after if size in {(16, 8), (8, 16)}] == [(8, 16), (16, 8)]
    assert after.count((16, 4)) == before.count((16, 4)) == 2


#: Drawn graphs with heads, and the share of parameters that half of them leave at most.
DRAWN = {
    "fused_attention": 0.62,
    "fused_attention_of_several_sizes": 0.51,
    "fused_multi_head": 0.51,
    "fused_grouped_query": 0.71,
    "fused_rotary": 0.54,
    "rotary_partly": 0.53,
    "attention_one_key_head": 0.63,
    "attention_operator": 0.51,
    "attention_side_by_side": 0.7,
    "rotary_interleaved": 0.54,
}


@pytest.mark.parametrize(("name", "most"), DRAWN.items())
def test_half_of_the_heads_of_operators(name: str, most: float, tmp_path: Path) -> None:
    file = DRAWINGS[name].write(tmp_path / "drawn.onnx")
    sizes = [
        sum(numpy_helper.to_array(tensor).size for tensor in onnx.load(path).graph.initializer)
        for path in (file, halved(file, tmp_path))
    ]
    assert sizes[1] <= most * sizes[0]
