"""What validation says, posted back as `given`, makes the same file; inspection names the same groups."""

from pathlib import Path
from typing import Any

import pytest

from api_schemas.jobs import Plan
from tests.engine import chains
from tests.engine.masks import recipe
from tests.zoo import export
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError
from worker.engine.pipeline import Source, inspect, plan, prune
from worker.engine.verify import examine


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def _plan(path: Path, scratch: Path, **request: Any) -> Plan:
    return plan(Source(path, path.name), recipe(**request), Context(scratch))


def _bytes(path: Path, scratch: Path, **request: Any) -> bytes:
    (scratch / "output").mkdir(parents=True)
    saved, _ = prune(Source(path, path.name), recipe(**request), scratch / "output", Context(scratch))
    return saved.read_bytes()


def _shares(found: Plan) -> dict[str, Any]:
    return {item.name: {"sparsity": item.sparsity} for item in found.groups or found.layers}


@pytest.mark.parametrize("granularity", ["element", "row", "block"])
@pytest.mark.parametrize("allocation", ["uniform", "global", "global_normalised", "lamp", "erk"])
@pytest.mark.parametrize("target", [{"sparsity": 0.737}, {"parameters": 0.41}])
def test_layers_given_again_make_the_same_file(
    tmp_path: Path, target: dict[str, float], allocation: str, granularity: str
) -> None:
    chain = chains.vgg(tmp_path / "m.onnx", [4, 12, 16], [20, 12])
    asked = {"target": target, "allocation": allocation, "granularity": granularity}
    found = _plan(chain.path, tmp_path, **asked)
    assert not found.groups
    again = {"allocation": "given", "granularity": granularity, "layers": _shares(found)}
    assert _bytes(chain.path, tmp_path / "a", **asked) == _bytes(chain.path, tmp_path / "b", **again)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121"])
@pytest.mark.parametrize(
    ("target", "allocation", "extra"),
    [
        ({"sparsity": 0.37}, "uniform", {}),
        ({"sparsity": 0.5}, "global_normalised", {"round_to": 4, "minimum": 3}),
        ({"macs": 0.6}, "uniform", {}),
    ],
)
def test_groups_given_again_make_the_same_file(
    tmp_path: Path, name: str, target: dict[str, float], allocation: str, extra: dict[str, int]
) -> None:
    path = export(name)
    channels = {"granularity": {"name": "channel", **extra}, "apply": "shrink"}
    found = _plan(path, tmp_path, target=target, allocation=allocation, **channels)
    assert {group.name for group in found.groups} == {
        group.name
        for group in inspect(Source(path, path.name), Context(tmp_path)).groups
        if group.frozen_reason is None
    }
    assert 0 < sum(group.removed for group in found.groups) < sum(group.channels for group in found.groups)
    first = _bytes(path, tmp_path / "a", target=target, allocation=allocation, **channels)
    again = {"allocation": "given", "layers": _shares(found), **channels}
    assert _bytes(path, tmp_path / "b", **again) == first


CHANNELS = {"granularity": "channel", "apply": "shrink", "allocation": "given"}


def test_any_layer_of_a_group_stands_for_it(tmp_path: Path) -> None:
    path = export("resnet18")
    groups = inspect(Source(path, path.name), Context(tmp_path)).groups
    group = next(item for item in groups if len(item.layers) > 1 and item.frozen_reason is None)
    shares = [
        [item.removed for item in _plan(path, tmp_path, layers={name: {"sparsity": 0.5}}, **CHANNELS).groups]
        for name in group.layers
    ]
    assert sum(shares[0]) == round(0.5 * group.channels)
    assert all(share == shares[0] for share in shares)


def test_layers_of_one_group_with_two_shares_are_refused(tmp_path: Path) -> None:
    path = export("resnet18")
    groups = inspect(Source(path, path.name), Context(tmp_path)).groups
    group = next(item for item in groups if len(item.layers) > 2 and item.frozen_reason is None)
    odd = {name: {"sparsity": 0.1 * i} for i, name in enumerate(group.layers[1:], 2)}
    with pytest.raises(InvalidRecipeError, match="share their units"):
        _plan(path, tmp_path, layers=odd, **CHANNELS)
    known = {group.name: {"sparsity": 0.5}, **odd}
    found = _plan(path, tmp_path, layers=known, **CHANNELS)
    assert next(item.sparsity for item in found.groups if item.name == group.name) == 0.5


def test_a_layer_whose_channels_stay_is_refused_by_name(tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [6, 8, 4])
    groups = {item.name: item for item in inspect(Source(chain.path, "m.onnx"), Context(tmp_path)).groups}
    assert groups["fc0"].frozen_reason is None
    assert (groups["fc0"].channels, groups["fc0"].layers) == (8, ["fc0"])
    assert groups["fc1"].frozen_reason is not None
    assert "output of the model" in groups["fc1"].frozen_reason
    with pytest.raises(InvalidRecipeError, match="'fc1'"):
        _plan(chain.path, tmp_path, layers={"fc1": {"sparsity": 0.5}}, **CHANNELS)


def test_what_is_not_given_stays_whole(tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [6, 20, 22, 4])
    coarse = {"granularity": {"name": "channel", "round_to": 8}, "apply": "shrink", "allocation": "given"}
    found = _plan(chain.path, tmp_path, layers={"fc1": {"sparsity": 0.5}}, **coarse)
    assert {group.name: group.removed for group in found.groups} == {"fc0": 0, "fc1": 14}
