"""Half of the channels again, over other ways to the file: dynamic batch, both exporters, unfolded, drawn.

The ways differ in what carries a channel count: constants, shape arithmetic, operators of later opsets.
"""

from pathlib import Path

import pytest

from api_schemas.recipe import RecipeRequest, resolve
from tests.zoo import DRAWINGS, ZOO, export
from tests.zoo.test_zoo import BY_DYNAMO
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import NothingPrunableError
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

#: The operator or reason that a refusal has to name, for graphs in which no channel may go.
REFUSED = {
    "bilinear": "no matrix product",
    "broadcast_channel": "different axes",
    "channel_maximum": "ArgMax",
    "channel_softmax": "Softmax",
    "channel_top": "TopK",
    "computed_kernel": "computed from data",
    "gru_classifier": "output of the model",
    "if_bodies": "If, Loop or Scan",
    "local_function": "output of the model",
    "loop_body": "Loop",
    "lrn": "LRN",
    "lstm_states": "output of the model",
    "pool_indices": "MaxUnpool",
    "quantised_weights": "quantised weights",
    "reduce_over_channels": "different axes",
    "running_sum": "CumSum",
    "scan_body": "Scan",
    "sequence": "SplitToSequence",
    "softmax_over_channels": "Softmax",
    "tied_autoencoder": "different layouts",
    "tiled_channels": "repetition",
    "weight_as_output": "output of the model",
    "weight_two_layouts": "different layouts",
}


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is not what is tested here, and would take most of the time."""
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def halve(name: str, file: Path, scratch: Path) -> None:
    """Prune, and expect either a proved smaller file or the refusal that is written down."""
    request = RecipeRequest.model_validate({"preset": "lookahead_channels", "target": {"sparsity": 0.5}})
    recipe = resolve(request, catalogue().preset_axes())
    (scratch / "output").mkdir()
    source = Source(file, f"{name}.onnx")
    if name in REFUSED:
        with pytest.raises(NothingPrunableError, match=REFUSED[name]):
            prune(source, recipe, scratch / "output", Context(scratch))
        return
    _, report = prune(source, recipe, scratch / "output", Context(scratch))
    assert all(check.passed for check in report.checks)
    assert "equals the masked model" in {check.name for check in report.checks}
    before, after = report.summary.parameters_before, report.summary.parameters_after
    assert before is not None
    assert after is not None
    assert after < before


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_drawn(name: str, tmp_path: Path) -> None:
    halve(name, DRAWINGS[name].write(tmp_path / "model.onnx"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ZOO))
def test_traced_with_dynamic_batch_and_batch_norms_kept(name: str, tmp_path: Path) -> None:
    halve(name, export(name, opset=20, dynamic_batch=True, fold=False), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_DYNAMO)
def test_by_dynamo_with_dynamic_batch(name: str, tmp_path: Path) -> None:
    halve(name, export(name, exporter="dynamo", opset=23, dynamic_batch=True), tmp_path)
