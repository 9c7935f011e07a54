"""What stands where neither the request nor its preset says anything."""

from typing import Any

import pytest

from api_schemas.recipe import RecipeRequest, resolve

PRESETS = {"plain": {"criterion": {"name": "lookahead"}}, "fixed": {"schedule": {"name": "cubic"}}}


@pytest.mark.parametrize(
    ("request_", "schedule"),
    [
        ({"target": {"sparsity": 0.98}}, {"name": "rescored", "steps": 10}),
        ({"target": {"sparsity": 0.979}}, {"name": "one_shot"}),
        ({"target": {"sparsity": 0.99}, "preset": "plain"}, {"name": "rescored", "steps": 10}),
        ({"target": {"sparsity": 0.99}, "preset": "fixed"}, {"name": "cubic"}),
        ({"target": {"sparsity": 0.99}, "schedule": {"name": "one_shot"}}, {"name": "one_shot"}),
        ({"target": {"sparsity": 0.99}, "criterion": {"name": "magnitude"}}, {"name": "one_shot"}),
        ({"target": {"sparsity": 0.99}, "granularity": {"name": "channel"}}, {"name": "one_shot"}),
        ({"target": {"macs": 0.01}}, {"name": "one_shot"}),
    ],
)
def test_at_high_sparsity_lookahead_is_scored_anew(
    request_: dict[str, Any], schedule: dict[str, Any]
) -> None:
    found = resolve(RecipeRequest.model_validate(request_), PRESETS)
    assert found.schedule.model_dump() == schedule


def test_a_resolved_recipe_means_itself() -> None:
    request = {"preset": "plain", "target": {"sparsity": 0.99}, "granularity": {"name": "element"}}
    found = resolve(RecipeRequest.model_validate(request), PRESETS)
    again = resolve(RecipeRequest.model_validate(found.model_dump(exclude_none=True)), PRESETS)
    assert again == found


@pytest.mark.parametrize("granularity", ["channel", "head"])
def test_what_is_whole_leaves_the_file(granularity: str) -> None:
    request = RecipeRequest.model_validate({"granularity": {"name": granularity}})
    assert resolve(request, {}).apply.name == "shrink"
    assert resolve(RecipeRequest(), {}).recovery.name == "auto"
