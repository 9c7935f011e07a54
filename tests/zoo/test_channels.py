"""Half of the channels of every network in the zoo: really gone, and proved equal to the masked model.

The job itself checks that the smaller file passes the ONNX checker, keeps inputs and outputs, runs in ONNX
Runtime and equals the full model with the same channels at zero; a job that fails any of it fails here.
"""

from pathlib import Path

import pytest

from api_schemas.recipe import RecipeRequest, resolve
from tests.zoo import ZOO, ExportError, export
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import NothingPrunableError
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

#: The bar of the issue: parameters kept at half of the channels.
CNNS = (
    "alexnet vgg11_bn resnet18 resnet50 resnext50 wide_resnet50_2 densenet121 googlenet inception_v3 "
    "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large efficientnet_b0 mnasnet1_0 regnet_x_400mf yolo "
    "regnet_y_400mf shufflenet_v2_x1_0 squeezenet1_1 convnext_tiny fcn_resnet50 deeplabv3_resnet50 unet hrnet"
).split()
BAR = 0.36

#: Networks in which nothing can go, each for a reason that the refusal must give.
REFUSED = {
    "bilinear": "no matrix product",
    "softmax_over_channels": "Softmax",
    "tied_autoencoder": "different layouts",
}


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latency is not what is tested here, and would take most of the time."""
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def _halved(name: str, tmp_path: Path) -> float:
    """Share of parameters kept."""
    recipe = resolve(
        RecipeRequest.model_validate({"preset": "lookahead_channels", "target": {"sparsity": 0.5}}),
        catalogue().preset_axes(),
    )
    (tmp_path / "output").mkdir()
    _, report = prune(Source(export(name), f"{name}.onnx"), recipe, tmp_path / "output", Context(tmp_path))
    assert all(check.passed for check in report.checks)
    assert "equals the masked model" in {check.name for check in report.checks}
    assert report.summary.parameters_before is not None
    assert report.summary.parameters_after is not None
    return report.summary.parameters_after / report.summary.parameters_before


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_half_of_the_channels(name: str, tmp_path: Path) -> None:
    try:
        export(name)
    except ExportError as error:
        pytest.skip(f"not exported: {str(error)[:100]}")
    if name in REFUSED:
        with pytest.raises(NothingPrunableError, match=REFUSED[name]):
            _halved(name, tmp_path)
        return
    kept = _halved(name, tmp_path)
    assert kept < 1.0
    if name in CNNS:
        assert kept <= BAR
