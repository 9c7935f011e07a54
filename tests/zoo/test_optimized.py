"""Files as ONNX Runtime's own optimizers leave them, with half of the channels and of the heads."""

from pathlib import Path

import onnx
import onnxruntime
import pytest
from onnxruntime.transformers.optimizer import optimize_model

from tests.zoo import Exporter, export
from tests.zoo.test_heads import halved as heads_halved
from tests.zoo.test_routes import halve
from worker.engine.verify import examine

#: Network, the optimizer's name for its kind, and an operator that it must have written.
FUSED = [
    ("bert", "bert", "SkipLayerNormalization"),
    ("gpt2", "gpt2", "FastGelu"),
    ("llama", "gpt2", "SkipSimplifiedLayerNormalization"),
    ("vit_b_16", "bert", "BiasGelu"),
]
ROUTES: list[tuple[Exporter, int]] = [("torchscript", 14), ("torchscript", 17), ("dynamo", 18)]
#: Share of parameters kept at half of the channels.
BAR = 0.33


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def fused(name: str, kind: str, exporter: Exporter, opset: int, folder: Path) -> Path:
    """The file as `onnxruntime.transformers.optimizer` rewrites it."""
    file = export(name, exporter=exporter, opset=opset, dynamic_batch=True)
    model = optimize_model(str(file), model_type=kind, num_heads=4, hidden_size=32, opt_level=0)
    path = folder / f"{name}.onnx"
    model.save_model_to_file(str(path))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("exporter", "opset"), ROUTES)
@pytest.mark.parametrize(("name", "kind", "operator"), FUSED)
def test_fused_transformers(
    name: str, kind: str, operator: str, exporter: Exporter, opset: int, tmp_path: Path
) -> None:
    path = fused(name, kind, exporter, opset, tmp_path)
    assert operator in {node.op_type for node in onnx.load(path).graph.node}
    assert (halve(name, path, tmp_path) or 1.0) < BAR
    (tmp_path / "heads").mkdir()
    saved = heads_halved(path, tmp_path / "heads")
    assert saved.stat().st_size < path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "operator"), [("resnet18", "FusedConv"), ("bert", "Gelu"), ("unet", "FusedConv")]
)
def test_files_that_the_runtime_saved(name: str, operator: str, tmp_path: Path) -> None:
    """ONNX Runtime writes what its own passes made of a model, convolutions with activations inside them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(export(name)), options, providers=["CPUExecutionProvider"])
    assert operator in {node.op_type for node in onnx.load(tmp_path / "saved.onnx").graph.node}
    assert (halve(name, tmp_path / "saved.onnx", tmp_path) or 1.0) < 0.4
