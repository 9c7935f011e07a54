"""Decoder steps whose keys and values are inputs and outputs: the caches stay, the rest is cut."""

from pathlib import Path

import onnx
import pytest

from api_schemas.models import ChannelGroup
from api_schemas.recipe import RecipeRequest, resolve
from tests.zoo import Exporter, export
from tests.zoo.test_heads import halved
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import NothingPrunableError
from worker.engine.formats import LoadOptions, load
from worker.engine.graph.build import build
from worker.engine.pipeline import Source, prune
from worker.engine.report.inspection import inspection_of
from worker.engine.verify import examine

ROUTES: list[tuple[Exporter, int]] = [("torchscript", 17), ("dynamo", 18)]


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


@pytest.mark.parametrize(("exporter", "opset"), ROUTES)
@pytest.mark.parametrize("name", ["cache_full", "cache_grouped", "cache_multi_query"])
def test_what_makes_a_cache_keeps_its_outputs(
    name: str, exporter: Exporter, opset: int, tmp_path: Path
) -> None:
    file = export(name, exporter=exporter, opset=opset)
    request = RecipeRequest.model_validate({"preset": "lookahead_channels", "target": {"sparsity": 0.5}})
    recipe = resolve(request, catalogue().preset_axes())
    _, report = prune(Source(file, file.name), recipe, tmp_path, Context(tmp_path))
    shapes = [layer.shape_after or layer.shape for layer in report.layers]
    queries, keys, values = shapes[1:4]  # half of what they read, all of what they make
    assert [queries[0], keys[0], values[0]] == [8, 8, 8]
    assert keys[1] == values[1] == report.layers[2].shape[1]
    assert shapes[5] == [8, 12]
    assert report.summary.parameters_after is not None
    assert report.summary.parameters_before is not None
    assert report.summary.parameters_after < 0.42 * report.summary.parameters_before
    reasons = {group.name: group.frozen_reason or "" for group in _inspected(file, tmp_path)}
    for layer in report.layers[1:4]:
        assert "output of the model" in reasons[layer.name]


def _inspected(file: Path, scratch: Path) -> list[ChannelGroup]:
    network = load(file, LoadOptions(scratch=scratch))
    return inspection_of(network, build(network)).groups


def test_heads_of_a_cache_stay_and_the_reason_is_told(tmp_path: Path) -> None:
    with pytest.raises(NothingPrunableError, match="output of the model"):
        halved(export("cache_full"), tmp_path)


@pytest.mark.parametrize(("exporter", "opset"), ROUTES)
def test_queries_on_one_cached_head_go(exporter: Exporter, opset: int, tmp_path: Path) -> None:
    saved = halved(export("cache_multi_query", exporter=exporter, opset=opset), tmp_path)
    shapes = [tuple(tensor.dims) for tensor in onnx.load(saved).graph.initializer]
    assert (16, 8) in shapes
    assert (8, 16) in shapes
    assert shapes.count((16, 4)) == 2
