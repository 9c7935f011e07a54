"""Bodies as the contract has them."""

from typing import Any

from api_schemas.ids import new_dataset_id, new_job_id, new_model_id

JOB_ID, MODEL_ID, DATASET_ID = new_job_id(), new_model_id(), new_dataset_id()
NOW = "2026-11-20T12:00:00Z"
PARTS = {
    "criterion": {"name": "lookahead"},
    "granularity": {"name": "element"},
    "allocation": {"name": "uniform"},
    "schedule": {"name": "one_shot"},
    "apply": {"name": "mask"},
    "recovery": {"name": "none"},
}
SUMMARY: dict[str, Any] = {
    "sparsity": 0.8,
    "parameters_before": 1000,
    "parameters_after": 1000,
    "nonzero_after": 200,
    "size_bytes_before": 4000,
    "size_bytes_after": 4000,
    "compressed_bytes_before": 3800,
    "compressed_bytes_after": 1200,
    "accuracy_before": 0.98,
    "accuracy_after": 0.95,
}


def job(status: str = "queued", job_id: str = JOB_ID, **more: Any) -> dict[str, Any]:
    base = f"/v1/jobs/{job_id}"
    body = {
        "id": job_id,
        "status": status,
        "created_at": NOW,
        "model_id": MODEL_ID,
        "recipe": PARTS | {"preset": "lookahead", "target": {"sparsity": 0.8}},
        "links": {"self": base, "events": f"{base}/events", "cancel": f"{base}/cancel"},
    }
    if status == "succeeded":
        body["summary"] = SUMMARY
    if status == "failed":
        body["error"] = {"code": "invalid_model", "message": "nothing to prune", "hint": "give it weights"}
    return body | more


def model(sha256: str = "0" * 64, **more: Any) -> dict[str, Any]:
    body = {
        "id": MODEL_ID,
        "sha256": sha256,
        "format": "onnx",
        "filename": "m.onnx",
        "size_bytes": 3,
        "created_at": NOW,
    }
    return body | more


def dataset(sha256: str) -> dict[str, Any]:
    arrays = [{"name": "x", "dtype": "float32", "shape": [4, 3]}]
    head = {"id": DATASET_ID, "sha256": sha256, "format": "npz", "filename": "d.npz", "size_bytes": 3}
    return head | {"created_at": NOW, "arrays": arrays, "rows": 4, "has_targets": False}


def event(number: int, kind: str = "stage", **data: Any) -> dict[str, Any]:
    return {"id": number, "type": kind, "at": NOW, "data": data}


def report(**more: Any) -> dict[str, Any]:
    file = {"filename": "m.onnx", "sha256": "0" * 64, "size_bytes": 4000, "compressed_bytes": 3800}
    file |= {"parameters": 1000, "nonzero": 1000}
    layer = {"name": "conv1", "op": "Conv", "weight": "w", "shape": [8, 3, 3, 3], "parameters": 216}
    layer |= {"zeros_before": 0, "zeros_after": 173, "sparsity_before": 0.0, "sparsity_after": 0.8009}
    body = {
        "job_id": JOB_ID,
        "created_at": NOW,
        "model_format": "onnx",
        "recipe": PARTS | {"target": {"sparsity": 0.8}},
        "achieved": 0.8,
        "prunable_parameters": 1000,
        "summary": SUMMARY,
        "before": file,
        "after": file,
        "layers": [layer],
        "refusals": [{"layer": "head", "reason": "excluded"}],
        "accuracy": {"metric": "top1", "output": "y", "rows": 4, "before": 0.98, "after": 0.95},
        "environment": {"device": "cpu", "threads": 1, "sandbox": "strict", "versions": {}},
        "seed": 0,
    }
    return body | more
