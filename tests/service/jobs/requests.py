"""Bodies of job requests."""

from typing import Any


def body(model_id: str, dataset_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """Lookahead at 80 %; `changes` go into the recipe."""
    recipe = {"preset": "lookahead", "target": {"sparsity": 0.8}} | changes
    made: dict[str, Any] = {
        "model_id": model_id,
        "recipe": {name: value for name, value in recipe.items() if value is not None},
    }
    return made | ({"dataset_id": dataset_id} if dataset_id else {})
