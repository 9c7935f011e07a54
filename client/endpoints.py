"""The calls of the contract: one function per endpoint, giving the `Call` that reaches it."""

from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from api_schemas.jobs import JobOptions, JobRequest, JobStatus
from client.uploads import ModelFiles, OnBytes, Upload
from client.wire import Call

_UPLOAD_READ_SECONDS = 600.0
_VALIDATE_READ_SECONDS = 90.0
_STREAM_READ_SECONDS = 45.0
_BINARY = {"Content-Type": "application/octet-stream"}


def _post_headers() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def upload_model(files: ModelFiles, on_bytes: OnBytes | None = None) -> Call:
    """``POST /v1/models``: raw for a single file, multipart when there is external data."""
    if not files.external:
        return _upload_raw("/v1/models", files.main, on_bytes)
    upload = Upload(parts=_model_parts(files), on_bytes=on_bytes)
    return Call("POST", "/v1/models", {}, _post_headers(), upload=upload, read_seconds=_UPLOAD_READ_SECONDS)


def upload_dataset(path: Path, on_bytes: OnBytes | None = None) -> Call:
    """``POST /v1/datasets``."""
    return _upload_raw("/v1/datasets", path, on_bytes)


def _upload_raw(path: str, file: Path, on_bytes: OnBytes | None) -> Call:
    return Call(
        "POST",
        path,
        {"filename": file.name},
        _post_headers() | _BINARY,
        upload=Upload(raw=file, on_bytes=on_bytes),
        read_seconds=_UPLOAD_READ_SECONDS,
    )


def _model_parts(files: ModelFiles) -> tuple[tuple[str, str, Path], ...]:
    external = tuple(("external_data", name, path) for name, path in files.external)
    return (("file", files.main.name, files.main), *external)


def prune(files: ModelFiles, dataset: Path | None, options: JobOptions, on_bytes: OnBytes | None) -> Call:
    """``POST /v1/prune``: model, data and recipe in one request."""
    data = (("dataset", dataset.name, dataset),) if dataset else ()
    upload = Upload(
        parts=_model_parts(files) + data,
        fields={"request": options.model_dump_json(exclude_unset=True)},
        on_bytes=on_bytes,
    )
    return Call("POST", "/v1/prune", {}, _post_headers(), upload=upload, read_seconds=_UPLOAD_READ_SECONDS)


def model(model_id: str) -> Call:
    """``GET /v1/models/{id}``."""
    return Call("GET", f"/v1/models/{_segment(model_id)}")


def models(cursor: str | None, limit: int) -> Call:
    """``GET /v1/models``."""
    return Call("GET", "/v1/models", _page(cursor, limit))


def delete_model(model_id: str) -> Call:
    """``DELETE /v1/models/{id}``."""
    return Call("DELETE", f"/v1/models/{_segment(model_id)}")


def submit(request: JobRequest) -> Call:
    """``POST /v1/jobs``."""
    body = request.model_dump(mode="json", exclude_unset=True)
    return Call("POST", "/v1/jobs", {}, _post_headers(), json=body)


def validate(request: JobRequest) -> Call:
    """``POST /v1/jobs/validate``."""
    body = request.model_dump(mode="json", exclude_unset=True)
    return Call(
        "POST", "/v1/jobs/validate", {}, _post_headers(), json=body, read_seconds=_VALIDATE_READ_SECONDS
    )


def job(job_id: str, wait: float = 0) -> Call:
    """``GET /v1/jobs/{id}``, held by the server for up to `wait` seconds until the job ends."""
    params = {"wait": str(int(wait))} if wait >= 1 else {}
    return Call("GET", f"/v1/jobs/{_segment(job_id)}", params, read_seconds=wait + 15)


def jobs(status: JobStatus | None, cursor: str | None, limit: int) -> Call:
    """``GET /v1/jobs``."""
    params = _page(cursor, limit)
    return Call("GET", "/v1/jobs", params | {"status": status.value} if status else params)


def cancel(job_id: str) -> Call:
    """``POST /v1/jobs/{id}/cancel``."""
    return Call("POST", f"/v1/jobs/{_segment(job_id)}/cancel", {}, _post_headers())


def events(job_id: str, after: int) -> Call:
    """``GET /v1/jobs/{id}/events`` as a list."""
    headers = {"Accept": "application/json"} | _after(after)
    return Call("GET", f"/v1/jobs/{_segment(job_id)}/events", {}, headers)


def event_stream(job_id: str, after: int, read_seconds: float = _STREAM_READ_SECONDS) -> Call:
    """``GET /v1/jobs/{id}/events`` as Server-Sent Events. Heartbeats come at least every 15 s."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"} | _after(after)
    return Call(
        "GET",
        f"/v1/jobs/{_segment(job_id)}/events",
        {},
        headers,
        read_seconds=min(read_seconds, _STREAM_READ_SECONDS),
    )


def report(job_id: str) -> Call:
    """``GET /v1/jobs/{id}/report`` as JSON."""
    return Call("GET", f"/v1/jobs/{_segment(job_id)}/report", {}, {"Accept": "application/json"})


def report_page(job_id: str) -> Call:
    """``GET /v1/jobs/{id}/report`` as the self-contained HTML page."""
    return Call("GET", f"/v1/jobs/{_segment(job_id)}/report", {}, {"Accept": "text/html"})


def download(job_id: str, headers: dict[str, str]) -> Call:
    """``GET /v1/jobs/{id}/model``, byte for byte."""
    return Call("GET", f"/v1/jobs/{_segment(job_id)}/model", {}, {"Accept-Encoding": "identity"} | headers)


def methods() -> Call:
    """``GET /v1/methods``."""
    return Call("GET", "/v1/methods")


def presets() -> Call:
    """``GET /v1/presets``."""
    return Call("GET", "/v1/presets")


def _segment(identifier: str) -> str:
    """An id as one path segment, whatever the caller passed as one."""
    return quote(identifier, safe="") or "-"


def _page(cursor: str | None, limit: int) -> dict[str, str]:
    return {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})


def _after(event_id: int) -> dict[str, str]:
    return {"Last-Event-ID": str(event_id)} if event_id else {}
