"""Jobs: what is posted, what is polled."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from api_schemas.base import Answer, Request
from api_schemas.errors import JobError
from api_schemas.ids import DatasetId, JobId, ModelId
from api_schemas.recipe import OutputSpec, Recipe, RecipeRequest

Dimension = Annotated[int, Field(ge=1, le=2**31)]
Shape = Annotated[list[Dimension], Field(max_length=16)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=32)
]


class JobStatus(StrEnum):
    """Where a job is; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """True when the job will not change any more."""
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


class Stage(StrEnum):
    """What a running job is doing, in the order in which jobs do it."""

    STARTING = "starting"
    LOADING = "loading"
    ANALYSING = "analysing"
    SCORING = "scoring"
    SELECTING = "selecting"
    APPLYING = "applying"
    RECOVERING = "recovering"
    VERIFYING = "verifying"
    MEASURING = "measuring"
    SAVING = "saving"
    PUBLISHING = "publishing"


class InputSpec(Request):
    """One input in full: a tensor's shape and dtype, or the value of an input that is a plain number."""

    shape: Shape | None = None
    dtype: Annotated[str, Field(max_length=16)] | None = None
    value: int | float | bool | None = None


InputSpecs = Annotated[dict[Annotated[str, Field(max_length=256)], Shape | InputSpec], Field(max_length=256)]


class WebhookSpec(Request):
    """Where to POST when the job ends (Standard Webhooks)."""

    url: Annotated[str, Field(max_length=2048, pattern="^https?://")]


class JobOptions(Request):
    """A job without its files: the `request` part of ``POST /v1/prune``."""

    recipe: RecipeRequest
    inputs: InputSpecs = {}
    metadata: Metadata = {}
    webhook: WebhookSpec | None = None
    output: OutputSpec | None = None


class JobRequest(JobOptions):
    """``POST /v1/jobs``."""

    model_id: ModelId
    dataset_id: DatasetId | None = None


class Progress(Answer):
    """Steps of the present stage."""

    done: int = 0
    total: int | None = None
    unit: str | None = None


class Summary(Answer):
    """Measured figures of a succeeded job; null means not measured.

    `accuracy_metric` says what the accuracies are: of values it may be the mean squared error.
    """

    sparsity: float | None = None
    parameters_before: int | None = None
    parameters_after: int | None = None
    nonzero_after: int | None = None
    macs_before: int | None = None
    macs_after: int | None = None
    size_bytes_before: int | None = None
    size_bytes_after: int | None = None
    compressed_bytes_before: int | None = None
    compressed_bytes_after: int | None = None
    latency_ms_before: float | None = None
    latency_ms_after: float | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    accuracy_metric: Annotated[str, Field(pattern="^[ -~]{1,64}$")] | None = None
    output_cosine: float | None = None


class Links(Answer):
    """Where to go next; `report` and `model` are null until there is one."""

    self: str
    events: str
    cancel: str
    report: str | None = None
    model: str | None = None


class Job(Answer):
    """A job as the API shows it."""

    id: JobId
    status: JobStatus
    stage: Stage | None = None
    progress: Progress = Progress()
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    model_id: ModelId
    dataset_id: DatasetId | None = None
    recipe: Recipe
    metadata: dict[str, str] = {}
    checkpoint_at: datetime | None = None
    error: JobError | None = None
    summary: Summary | None = None
    links: Links


class PlannedLayer(Answer):
    """One layer in a validation answer; `sparsity` is what it would get."""

    name: str
    op: str
    shape: list[int]
    parameters: int
    sparsity: float | None = None
    pruned: int | None = None


class PlannedGroup(Answer):
    """One group of coupled channels in a validation answer; `sparsity` is the share of them that would go."""

    name: str
    channels: int
    removed: int
    sparsity: float
    layers: list[str]


class Refusal(Answer):
    """A layer that would be left alone, and why."""

    layer: str
    reason: str


class Plan(Answer):
    """What a recipe would do to a model, found without changing it.

    The sparsities of `groups`, or of `layers` where there are none, posted as a recipe's `layers` with the
    allocation `given`, make the same file.
    """

    layers: list[PlannedLayer] = []
    groups: list[PlannedGroup] = []
    refusals: list[Refusal] = []
    sparsity: float | None = None
    warnings: list[str] = []


class Validation(Plan):
    """``POST /v1/jobs/validate``: the resolved recipe and the plan, or the problem the job would end with."""

    valid: bool
    recipe: Recipe
    error: JobError | None = None


class CheckpointOrder(Answer):
    """How a child saves where it has come to, and what the attempt before it saved, if it did.

    Checkpoints are written into `folder`, at most one per `interval_seconds`, and announced by events. The
    signal `hurry` asks for one as soon as may be, because the worker is about to stop.
    """

    folder: str
    interval_seconds: float
    most_bytes: int
    saved: str | None = None
    hurry: int | None = None


class WorldOrder(Answer):
    """One of several children that train together, and what they talk through: descriptors it was given.

    `memory` is mapped by all of them: a slot of `slot_bytes` for each and one for what came out. Child 0 has
    a pipe from and to each other in `reads` and `writes`, the others one each from and to child 0. A child
    waits `seconds` for the others at most.
    """

    rank: int
    size: int
    memory: int
    slot_bytes: int
    reads: list[int]
    writes: list[int]
    seconds: float


class ChildOrder(Answer):
    """What the supervisor hands its child: one job, as files in the child's own directory.

    Paths are relative to that directory. `model`, `dataset` and the saved checkpoint are read only.
    `sandbox` says what confines the child, for the report. Without `checkpoints` none are saved. With a
    `world` several children do the same job, and only the first of them speaks and saves.
    """

    kind: Literal["prune", "inspect", "plan"]
    job_id: str
    model: str
    filename: str
    dataset: str | None = None
    recipe: Recipe | None = None
    inputs: InputSpecs = {}
    device: str | None = None
    threads: int | None = None
    sandbox: str = "off"
    checkpoints: CheckpointOrder | None = None
    world: WorldOrder | None = None


class ChildResult(Answer):
    """The child's last line on its event pipe. Files are in the child's `output/` directory."""

    error: JobError | None = None
    model: str | None = None
    report: str | None = None
    page: str | None = None
    summary: Summary | None = None
    inspection: dict[str, Any] | None = None
    plan: Plan | None = None
