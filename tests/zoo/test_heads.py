"""Half of the attention heads, over both exporters and several opsets; the job proves the smaller file."""

from pathlib import Path

import onnx
import pytest

from api_schemas.recipe import RecipeRequest, resolve
from tests.zoo import Exporter, export
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError
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


def test_one_key_head_for_all_queries_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipeError, match="no attention with heads"):
        halved(export("attention_multi_query"), tmp_path)
