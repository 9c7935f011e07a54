"""What both clients can do, as flows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, final

from pydantic import BaseModel

from api_schemas.base import Answer
from api_schemas.catalogue import MethodInfo, MethodList, PresetInfo, PresetList
from api_schemas.datasets import Dataset
from api_schemas.jobs import Job, JobOptions, JobRequest, JobStatus, Validation
from api_schemas.models import Model
from api_schemas.pages import Page
from api_schemas.recipe import RecipeRequest
from api_schemas.report import Report
from client import endpoints
from client.downloading import Place, download
from client.errors import ConflictError, DigestMismatchError, JobFailedError, LocalFileError, WaitTimeoutError
from client.flow import Flow, Sleep, exchange
from client.retry import RetryPolicy
from client.uploads import OnBytes, model_files, readable
from client.waiting import Deadline, Watch, wait_all
from client.wire import Call, Reply

Schema = TypeVar("Schema", bound=BaseModel)
Result = TypeVar("Result")
RecipeLike = RecipeRequest | Mapping[str, Any]
PathLike = str | Path

_INSPECTION_POLL_SECONDS = 0.5


@final
class JobPage(Page[Job]):
    """One page of jobs."""


@final
class ModelPage(Page[Model]):
    """One page of models."""


@final
class Nothing(Answer):
    """The body of a 204."""


def request_options(
    recipe: RecipeLike | None, preset: str | None, sparsity: float | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The body shared by all ways to ask for a job; `preset` and `sparsity` go over the recipe.

    Options that are None are left out, so that the server's defaults hold.
    """
    asked = recipe.model_dump(exclude_unset=True) if isinstance(recipe, RecipeRequest) else dict(recipe or {})
    if preset is not None:
        asked["preset"] = preset
    if sparsity is not None:
        asked["target"] = {"sparsity": sparsity}
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(given.get("webhook"), str):
        given["webhook"] = {"url": given["webhook"]}
    return {"recipe": asked, **given}


@final
class Flows:
    """The operations of a client, for one retry policy."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    def _ask(self, call: Call, schema: type[Schema]) -> Flow[Schema]:
        reply = yield from exchange(call, self.policy)
        return reply.parse(schema)

    def upload_model(
        self, path: PathLike, external_data: Sequence[PathLike], on_bytes: OnBytes | None
    ) -> Flow[Model]:
        files = model_files(path, external_data)
        reply = yield from exchange(endpoints.upload_model(files, on_bytes), self.policy)
        model = reply.parse(Model)
        _check_sent(reply, model.sha256)
        return model

    def upload_dataset(self, path: PathLike, on_bytes: OnBytes | None) -> Flow[Dataset]:
        reply = yield from exchange(endpoints.upload_dataset(readable(Path(path)), on_bytes), self.policy)
        dataset = reply.parse(Dataset)
        _check_sent(reply, dataset.sha256)
        return dataset

    def prune(
        self,
        path: PathLike,
        dataset: PathLike | None,
        external_data: Sequence[PathLike],
        options: Mapping[str, Any],
        on_bytes: OnBytes | None,
    ) -> Flow[Job]:
        files = model_files(path, external_data)
        data = readable(Path(dataset)) if dataset else None
        request = JobOptions.model_validate(options)
        return (yield from self._ask(endpoints.prune(files, data, request, on_bytes), Job))

    def submit(self, model_id: str, dataset_id: str | None, options: Mapping[str, Any]) -> Flow[Job]:
        return (yield from self._ask(endpoints.submit(_job_request(model_id, dataset_id, options)), Job))

    def validate(self, model_id: str, dataset_id: str | None, options: Mapping[str, Any]) -> Flow[Validation]:
        request = _job_request(model_id, dataset_id, options)
        return (yield from self._ask(endpoints.validate(request), Validation))

    def model(self, model_id: str) -> Flow[Model]:
        return (yield from self._ask(endpoints.model(model_id), Model))

    def models(self, cursor: str | None, limit: int) -> Flow[Page[Model]]:
        return (yield from self._ask(endpoints.models(cursor, limit), ModelPage))

    def delete_model(self, model_id: str) -> Flow[None]:
        yield from exchange(endpoints.delete_model(model_id), self.policy)

    def inspect(self, model_id: str, timeout: float | None) -> Flow[Model]:
        """The model once it has been inspected, well or badly."""
        deadline = Deadline(timeout)
        while True:
            model = yield from self.model(model_id)
            if model.inspected or model.inspection_error:
                return model
            if deadline.remaining <= 0:
                raise WaitTimeoutError([model_id], timeout or 0)
            yield Sleep(min(_INSPECTION_POLL_SECONDS, deadline.remaining))

    def job(self, job_id: str) -> Flow[Job]:
        return (yield from self._ask(endpoints.job(job_id), Job))

    def jobs(self, status: JobStatus | None, cursor: str | None, limit: int) -> Flow[Page[Job]]:
        return (yield from self._ask(endpoints.jobs(status, cursor, limit), JobPage))

    def cancel(self, job_id: str) -> Flow[Job]:
        return (yield from self._ask(endpoints.cancel(job_id), Job))

    def watch(self, job_id: str, timeout: float | None = None, after: int = 0) -> Watch:
        return Watch(job_id, Deadline(timeout), self.policy, last_id=after)

    def wait(self, job_ids: Sequence[str], timeout: float | None, told: bool) -> Flow[list[Job]]:
        deadline = Deadline(timeout)
        watches = [Watch(job_id, deadline, self.policy, told=told) for job_id in job_ids]
        return (yield from wait_all(watches))

    def report(self, job_id: str) -> Flow[Report]:
        reply = yield from self._of_finished(job_id, lambda: exchange(endpoints.report(job_id), self.policy))
        return reply.parse(Report)

    def report_page(self, job_id: str) -> Flow[str]:
        call = endpoints.report_page(job_id)
        reply = yield from self._of_finished(job_id, lambda: exchange(call, self.policy))
        return reply.body.decode("utf-8")

    def download(self, job_id: str, destination: PathLike) -> Flow[Path]:
        place = Place(job_id, Path(destination))
        if not place.directory.is_dir():
            raise LocalFileError(f"there is no directory {place.directory}")
        return (yield from self._of_finished(job_id, lambda: download(place, self.policy)))

    def methods(self) -> Flow[list[MethodInfo]]:
        return (yield from self._ask(endpoints.methods(), MethodList)).items

    def presets(self) -> Flow[list[PresetInfo]]:
        return (yield from self._ask(endpoints.presets(), PresetList)).items

    def _of_finished(self, job_id: str, result: Callable[[], Flow[Result]]) -> Flow[Result]:
        """What `result` gives; `JobFailedError` where there is none because the job failed."""
        try:
            return (yield from result())
        except ConflictError:
            job = yield from self.job(job_id)
            if job.status.finished and job.status is not JobStatus.SUCCEEDED:
                raise JobFailedError(job) from None
            raise


def _job_request(model_id: str, dataset_id: str | None, options: Mapping[str, Any]) -> JobRequest:
    named: dict[str, Any] = {"model_id": model_id, **options}
    return JobRequest.model_validate(named | {"dataset_id": dataset_id} if dataset_id else named)


def _check_sent(reply: Reply, stored: str) -> None:
    if reply.sent_sha256 and reply.sent_sha256 != stored:
        raise DigestMismatchError(
            f"sent a file with sha256 {reply.sent_sha256}, the server stored {stored}",
            hint="the file changed while it was being sent, or something altered it on the way",
        )
