"""Recipes from options."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from client.cli.exits import UsageError
from client.cli.recipes import RecipeOptions, build_recipe


def _sent(**options: Any) -> dict[str, Any]:
    return build_recipe(RecipeOptions(**options)).model_dump(mode="json", exclude_unset=True)


def test_nothing_given_leaves_all_to_the_server() -> None:
    assert _sent() == {}


def test_options() -> None:
    assert _sent(
        preset="lookahead", sparsity=0.8, exclude=["head.*"], layers=["conv1=0.5", "a=b=1"], seed=3
    ) == {
        "preset": "lookahead",
        "target": {"sparsity": 0.8},
        "exclude": ["head.*"],
        "layers": {"conv1": {"sparsity": 0.5}, "a=b": {"sparsity": 1.0}},
        "seed": 3,
    }


def test_settings_reach_any_depth_and_read_json() -> None:
    sets = ["criterion.name=magnitude", "granularity.name=n:m", "granularity.n=2", "target.macs=0.5"]
    assert _sent(sets=[*sets, "criterion.deep.er=[1, true]", "output.format=onnx"]) == {
        "criterion": {"name": "magnitude", "deep": {"er": [1, True]}},
        "granularity": {"name": "n:m", "n": 2},
        "target": {"macs": 0.5},
        "output": {"format": "onnx"},
    }


def test_options_go_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"preset": "magnitude", "target": {"macs": 0.5}, "exclude": ["a"], "seed": 1}))
    assert _sent(file=file, preset="lookahead", sparsity=0.5, exclude=["b"]) == {
        "preset": "lookahead",
        "target": {"sparsity": 0.5},
        "exclude": ["a", "b"],
        "seed": 1,
    }


@pytest.mark.parametrize(
    "options",
    [
        {"layers": ["conv1"]},
        {"layers": ["conv1=x"]},
        {"layers": ["=0.5"]},
        {"sets": ["x"]},
        {"sets": [".a=1"]},
        {"sets": ["preset=lookahead", "preset.name=x"]},
        {"file": Path("does-not-exist.json")},
    ],
)
def test_nonsense_is_a_usage_error(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build_recipe(RecipeOptions(**options))


@pytest.mark.parametrize("content", ["[]", "{", "3", ""])
def test_files_that_hold_no_recipe(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UsageError, match="not a JSON recipe"):
        build_recipe(RecipeOptions(file=tmp_path / "r.json"))


@pytest.mark.parametrize(
    "sets", [["nonsense.a=1"], ["target.macs=2"], ["target.macs=0.5", "target.sparsity=0.5"]]
)
def test_what_fits_no_schema_never_leaves(sets: list[str]) -> None:
    with pytest.raises(ValidationError):
        build_recipe(RecipeOptions(sets=sets))
