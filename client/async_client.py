"""The client for asyncio and trio."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, final, overload

import httpx2

from api_schemas.catalogue import MethodInfo, PresetInfo
from api_schemas.datasets import Dataset
from api_schemas.events import Event
from api_schemas.jobs import Job, JobStatus, Validation
from api_schemas.models import Model
from api_schemas.pages import Page
from api_schemas.report import Report
from client.async_driver import AsyncRun
from client.connection import Connection
from client.flow import Flow
from client.flows import Flows, PathLike, RecipeLike, request_options
from client.retry import RetryPolicy
from client.uploads import OnBytes
from client.waiting import follow, recorded

Result = TypeVar("Result")


@final
class AsyncLookahead:
    """A connection to a Lookahead server. Use it as an async context manager, or call `close`.

    `server` defaults to LOOKAHEAD_SERVER, then to http://127.0.0.1:8000; `api_key` to LOOKAHEAD_API_KEY.
    Every method raises subclasses of `client.errors.LookaheadError`; a request that does not fit the
    contract's schema raises pydantic's `ValidationError` before anything is sent.
    """

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        policy: RetryPolicy | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.connection = Connection.make(server, api_key, policy)
        self._http = httpx2.AsyncClient(**self.connection.settings(), transport=transport)
        self._flows = Flows(self.connection.policy)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, flow: Flow[Result], listener: Callable[[Any], object] | None = None) -> Result:
        return await AsyncRun(flow, self._http, self.connection).finish(listener)

    async def upload_model(
        self, path: PathLike, *, external_data: Sequence[PathLike] = (), on_bytes: OnBytes | None = None
    ) -> Model:
        """Upload a model file, streamed from disk.

        `path` may be a directory or zip of one ONNX file and its external data; otherwise
        `external_data` lists those files. `on_bytes(done, total)` is called as bytes leave.
        """
        return await self._run(self._flows.upload_model(path, external_data, on_bytes))

    async def upload_dataset(self, path: PathLike, *, on_bytes: OnBytes | None = None) -> Dataset:
        """Upload an .npz, .safetensors or .parquet file, or a zip of folders of images."""
        return await self._run(self._flows.upload_dataset(path, on_bytes))

    async def prune(
        self,
        path: PathLike,
        *,
        recipe: RecipeLike | None = None,
        preset: str | None = None,
        sparsity: float | None = None,
        dataset: PathLike | None = None,
        external_data: Sequence[PathLike] = (),
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> Job:
        """Upload model and data and submit the job in one request. The job is queued; see `wait`."""
        extras = {"inputs": inputs, "metadata": metadata, "webhook": webhook}
        options = request_options(recipe, preset, sparsity, extras)
        return await self._run(self._flows.prune(path, dataset, external_data, options, on_bytes))

    async def submit(
        self,
        model_id: str,
        *,
        recipe: RecipeLike | None = None,
        preset: str | None = None,
        sparsity: float | None = None,
        dataset_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
    ) -> Job:
        """Queue a job for an uploaded model."""
        extras = {"inputs": inputs, "metadata": metadata, "webhook": webhook}
        options = request_options(recipe, preset, sparsity, extras)
        return await self._run(self._flows.submit(model_id, dataset_id, options))

    async def validate(
        self,
        model_id: str,
        *,
        recipe: RecipeLike | None = None,
        preset: str | None = None,
        sparsity: float | None = None,
        dataset_id: str | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Validation:
        """What such a job would do, without queueing it."""
        options = request_options(recipe, preset, sparsity, {"inputs": inputs})
        return await self._run(self._flows.validate(model_id, dataset_id, options))

    async def model(self, model_id: str) -> Model:
        """An uploaded model."""
        return await self._run(self._flows.model(model_id))

    async def models(self, *, cursor: str | None = None, limit: int = 50) -> Page[Model]:
        """Uploaded models, newest first."""
        return await self._run(self._flows.models(cursor, limit))

    async def delete_model(self, model_id: str) -> None:
        """Delete a model. Raises `ConflictError` while a job uses it."""
        await self._run(self._flows.delete_model(model_id))

    async def inspect(self, model_id: str, *, timeout: float | None = None) -> Model:
        """Wait until the server has looked into the model: `layers` are there then, or `inspection_error`."""
        return await self._run(self._flows.inspect(model_id, timeout))

    async def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return await self._run(self._flows.job(job_id))

    async def jobs(
        self, *, status: JobStatus | None = None, cursor: str | None = None, limit: int = 50
    ) -> Page[Job]:
        """Jobs, newest first."""
        return await self._run(self._flows.jobs(status, cursor, limit))

    @overload
    async def wait(
        self,
        job: str,
        *,
        timeout: float | None = None,
        on_event: Callable[[str, Event], object] | None = None,
    ) -> Job: ...

    @overload
    async def wait(
        self,
        job: list[str] | tuple[str, ...],
        *,
        timeout: float | None = None,
        on_event: Callable[[str, Event], object] | None = None,
    ) -> list[Job]: ...

    async def wait(
        self,
        job: str | list[str] | tuple[str, ...],
        *,
        timeout: float | None = None,
        on_event: Callable[[str, Event], object] | None = None,
    ) -> Job | list[Job]:
        """Wait until a job, or each of a list, is finished, however it ends; a failed job is returned too.

        Events are streamed, with a fall-back to polling; `on_event(job_id, event)` gets each one once
        and is awaited if it can be.
        Jobs of a list are followed in turn. Raises `WaitTimeoutError` after `timeout` seconds;
        the jobs run on.
        """
        ids = [job] if isinstance(job, str) else list(job)
        finished = await self._run(
            self._flows.wait(ids, timeout, told=on_event is not None),
            (lambda told: on_event(told.job_id, told.event)) if on_event else None,
        )
        return finished[0] if isinstance(job, str) else finished

    async def events(self, job_id: str, *, after: int = 0) -> list[Event]:
        """The events so far with a number above `after`."""
        return await self._run(recorded(job_id, after, self.connection.policy))

    async def follow(
        self, job_id: str, *, after: int = 0, timeout: float | None = None
    ) -> AsyncIterator[Event]:
        """The events as they come, until the job ends. Raises like `wait`."""
        watch = self._flows.watch(job_id, timeout, after)
        async for told in AsyncRun(follow(watch), self._http, self.connection):
            yield told.event

    async def cancel(self, job_id: str) -> Job:
        """Ask for a job to be stopped. Raises `ConflictError` when it is finished."""
        return await self._run(self._flows.cancel(job_id))

    async def report(self, job_id: str) -> Report:
        """The report of a succeeded job. Raises `JobFailedError` with the reason for one that failed."""
        return await self._run(self._flows.report(job_id))

    async def report_page(self, job_id: str) -> str:
        """The report as a self-contained HTML page."""
        return await self._run(self._flows.report_page(job_id))

    async def download(
        self,
        job_id: str,
        destination: PathLike = ".",
        *,
        on_bytes: Callable[[int, int | None], object] | None = None,
    ) -> Path:
        """Fetch the pruned model to a file, or into a directory under the server's name for it.

        A broken download is resumed, also by a later call; the sha256 is checked before the file appears.
        Raises `DigestMismatchError`, `JobFailedError`, `LocalFileError`.
        """
        return await self._run(
            self._flows.download(job_id, destination),
            (lambda moved: on_bytes(moved.done, moved.total)) if on_bytes else None,
        )

    async def methods(self) -> list[MethodInfo]:
        """Every part a recipe may name."""
        return await self._run(self._flows.methods())

    async def presets(self) -> list[PresetInfo]:
        """Every named recipe."""
        return await self._run(self._flows.presets())
