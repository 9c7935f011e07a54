"""The report of a succeeded job. JSON is the truth; the HTML page renders it and nothing else.

A figure that was not measured is null, never guessed.
"""

from datetime import datetime
from enum import StrEnum

from api_schemas.base import Answer
from api_schemas.jobs import Refusal, Summary
from api_schemas.models import ModelFormat, TensorInfo
from api_schemas.recipe import Recipe, Target

REPORT_VERSION = 1


class Histogram(Answer):
    """`counts[i]` values lie in [`edges[i]`, `edges[i+1]`); with `log10` the edges are exponents of ten."""

    edges: list[float]
    counts: list[int]
    log10: bool = False


class LayerReport(Answer):
    """One pruned layer, before and after. `requested` and `sparsity` are shares of `parameters`.

    Where weights left the file `shape_after` and `parameters_after` say what stayed; they count as zeros.
    """

    name: str
    op: str
    weight: str
    shape: list[int]
    parameters: int
    requested: float | None = None
    zeros_before: int
    zeros_after: int
    sparsity_before: float
    sparsity_after: float
    parameters_after: int | None = None
    shape_after: list[int] | None = None
    macs: int | None = None
    macs_effective: int | None = None
    weights_before: Histogram | None = None
    weights_after: Histogram | None = None
    scores: Histogram | None = None
    score_threshold: float | None = None
    notes: list[str] = []


class FileReport(Answer):
    """A model file, measured on disk; `compressed_bytes` is zstd at the level stated."""

    filename: str
    sha256: str
    size_bytes: int
    compressed_bytes: int
    parameters: int
    nonzero: int
    macs: int | None = None
    macs_effective: int | None = None


class LatencyFigures(Answer):
    """Milliseconds per run over `runs` interleaved runs."""

    median_ms: float
    p90_ms: float
    runs: int


class LatencyReport(Answer):
    """Before and after, run in turn in one process; `remark` says in words what came of it."""

    runtime: str
    device: str
    batch: int
    threads: int
    before: LatencyFigures
    after: LatencyFigures
    speedup: float
    remark: str


class DataSource(StrEnum):
    """What the outputs were compared on."""

    DATASET = "dataset"
    RANDOM = "random"


class OutputAgreement(Answer):
    """One output of the pruned model against the same output of the original."""

    name: str
    cosine: float | None = None
    max_abs_difference: float | None = None
    top1_agreement: float | None = None


class AgreementReport(Answer):
    """How far the outputs moved, on what."""

    source: DataSource
    rows: int
    seed: int | None = None
    outputs: list[OutputAgreement]
    remark: str


class MetricReport(Answer):
    """A metric before and after; higher is better unless `lower_is_better`."""

    metric: str
    before: float
    after: float
    lower_is_better: bool = False


class AccuracyReport(Answer):
    """The metric of one output against the dataset's `targets` that decides, and `further` ones beside it.

    Higher is better unless `lower_is_better`.
    """

    metric: str
    output: str
    rows: int
    before: float
    after: float
    lower_is_better: bool = False
    further: list[MetricReport] = []


class CurvePoint(Answer):
    """Training after `step` steps: mean loss since the point before, and validation where it was taken."""

    step: int
    loss: float | None = None
    learning_rate: float
    validation_loss: float | None = None
    validation_metric: float | None = None


class RecoveryReport(Answer):
    """One recovery: why it was chosen, and what it gained on rows that it did not learn from.

    `kept` is false where the network was no better afterwards, and was put back. `metric` is measured on the
    held-out rows against the targets, or else against the outputs of the uploaded model; `uploaded` is that
    model's own figure.
    """

    recovery: str
    chosen_because: str
    metric: str | None = None
    lower_is_better: bool = False
    uploaded: float | None = None
    before: float | None = None
    after: float | None = None
    rows: int | None = None
    validation_rows: int | None = None
    steps: int | None = None
    best_step: int | None = None
    seconds: float
    kept: bool
    remark: str | None = None
    curve: list[CurvePoint] = []


class CheckResult(Answer):
    """A promise that the engine checked on this very file."""

    name: str
    passed: bool
    detail: str


class Environment(Answer):
    """Where and with what the job ran: `processes` of them trained together, each on a device of its own."""

    device: str
    processes: int = 1
    threads: int
    sandbox: str
    versions: dict[str, str]


class StageTime(Answer):
    """Wall time of one stage."""

    stage: str
    seconds: float


class TargetProbe(Answer):
    """A sparsity that the search for a target tried, and the figure there in the target's unit."""

    sparsity: float
    figure: float


class SweepPoint(Answer):
    """One target of a sweep, carried out and measured; `error` says why not where it could not be.

    On the `front` is a point that no other beats in non-zero parameters without losing quality: accuracy, or,
    without labels, the cosine between outputs. `chosen` is the file that was handed out.
    """

    target: Target
    error: str | None = None
    sha256: str | None = None
    sparsity: float | None = None
    parameters: int | None = None
    nonzero: int | None = None
    macs_effective: int | None = None
    size_bytes: int | None = None
    compressed_bytes: int | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    lower_is_better: bool = False
    output_cosine: float | None = None
    front: bool = False
    chosen: bool = False


class Report(Answer):
    """Everything asked, done, checked and measured.

    `requested` and `achieved` are sparsities; `target_requested` and `target_achieved` are in the target's
    own unit, measured on the finished file, and `target_probes` is what the search for it tried.
    """

    version: int = REPORT_VERSION
    job_id: str
    created_at: datetime
    model_format: ModelFormat
    opset: int | None = None
    recipe: Recipe
    requested: float | None = None
    achieved: float
    target_unit: str | None = None
    target_requested: float | None = None
    target_achieved: float | None = None
    target_probes: list[TargetProbe] = []
    sweep: list[SweepPoint] = []
    prunable_parameters: int
    summary: Summary
    before: FileReport
    after: FileReport
    inputs: list[TensorInfo] = []
    outputs: list[TensorInfo] = []
    layers: list[LayerReport]
    refusals: list[Refusal] = []
    latency: LatencyReport | None = None
    latency_reason: str | None = None
    agreement: AgreementReport | None = None
    agreement_reason: str | None = None
    accuracy: AccuracyReport | None = None
    accuracy_reason: str | None = None
    recovery: list[RecoveryReport] = []
    checks: list[CheckResult] = []
    warnings: list[str] = []
    stages: list[StageTime] = []
    environment: Environment
    seed: int
