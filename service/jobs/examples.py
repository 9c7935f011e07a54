"""Example bodies for the OpenAPI page."""

from fastapi.openapi.models import Example

_MODEL = "mdl_01jd3kq4vw8xg2m5nr7t9zb6ca"
_DATASET = "dat_01jd3kq9s0c4f7h1k3m6p8rtwy"

JOB_EXAMPLES: dict[str, Example] = {
    "lookahead": {
        "summary": "Prune 80 % of the weights by lookahead",
        "value": {"model_id": _MODEL, "recipe": {"preset": "lookahead", "target": {"sparsity": 0.8}}},
    },
    "parts": {
        "summary": "Every choice spelled out, with data for the accuracy before and after",
        "value": {
            "model_id": _MODEL,
            "dataset_id": _DATASET,
            "recipe": {
                "criterion": {"name": "lookahead"},
                "granularity": {"name": "element"},
                "allocation": {"name": "uniform"},
                "schedule": {"name": "one_shot"},
                "apply": {"name": "mask"},
                "recovery": {"name": "none"},
                "target": {"sparsity": 0.8},
                "exclude": ["head.*"],
                "layers": {"conv1": {"sparsity": 0.5}},
                "seed": 0,
            },
            "inputs": {"x": [1, 3, 32, 32]},
            "metadata": {"pipeline": "nightly"},
        },
    },
}
