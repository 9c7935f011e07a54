"""Verification of a pruned file: read it back, hold it to its promises, run it beside the upload, measure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from api_schemas.jobs import InputSpecs, Stage
from api_schemas.report import AccuracyReport, AgreementReport, CheckResult, LatencyReport
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import Dataset
from worker.engine.errors import BrokenPromiseError, EngineError, ModelNotRunnableError
from worker.engine.formats.base import LoadOptions, Network, Runner
from worker.engine.formats.onnx_widened import wide_feed
from worker.engine.graph.build import constants_in
from worker.engine.types import Evidence, FileFacts
from worker.engine.verify.comparison import compare
from worker.engine.verify.feeds import BATCH, MOST_ROWS, RANDOM_ROWS, Feeds, find_feeds
from worker.engine.verify.latency import SLOWER, measure_latency
from worker.engine.verify.masked import NAME, check_equal, remark_on, write_masked
from worker.engine.verify.promises import Promise, check_promises
from worker.engine.verify.saturation import least_magnitudes
from worker.engine.verify.size import measure_size
from worker.engine.verify.slowness import cause_of
from worker.engine.verify.widening import wide_runners

_LATENCY_SECONDS = 3.0
REORDERED = "reordered channels"
#: Models with more bytes of weights are run only where something depends on it.
MOST_BYTES = 2**31


@dataclass(frozen=True)
class Examined:
    """The upload, the saved file, and what is known to run them on."""

    model: Path
    filename: str
    saved: Path
    inputs: InputSpecs
    data: Dataset | None
    #: What was proved of the file's making before training changed it.
    proofs: tuple[CheckResult, ...] = ()


@dataclass(frozen=True)
class _Measured:
    agreement: AgreementReport | None = None
    agreement_reason: str | None = None
    accuracy: AccuracyReport | None = None
    accuracy_reason: str | None = None
    latency: LatencyReport | None = None
    latency_reason: str | None = None


def examine(examined: Examined, promise: Promise, context: Context) -> Evidence:
    """Check and measure. Raises BrokenPromiseError when the saved file is not what it must be, and
    ModelNotRunnableError when the runtime refuses the upload itself."""
    options = LoadOptions(examined.inputs, context.scratch, device=context.device)
    with context.stage(Stage.VERIFYING):
        before = formats.load(examined.model, options)
        after = formats.load(examined.saved, options)
        checks = check_promises(promise, before, after)
        reason = _too_large(examined, promise, before)
        run = None if reason else _run(examined, promise, before, options, context)
    _require([*checks, *(run.checks if run else ())])
    with context.stage(Stage.MEASURING):
        if run is None:
            context.warn(f"The model was {reason}. Structure and every weight of the file were checked.")
            return _evidence(examined, checks, _Measured(None, reason, None, reason, None, reason))
        measured = _measure(examined, run, cause_of(promise), context)
        return _evidence(examined, [*checks, *run.checks], measured)


@dataclass(frozen=True)
class _Run:
    """Both files in the runtime, what they are run on, and what running them once showed."""

    runners: tuple[Runner, Runner]
    feeds: Feeds
    checks: tuple[CheckResult, ...]


def _run(
    examined: Examined, promise: Promise, before: Network, options: LoadOptions, context: Context
) -> _Run:
    runners = _runners(examined, options, context)
    feeds = find_feeds(examined.data, examined.inputs, before.inputs, runners[0], context)
    checks = [_runs(runners, feeds), *examined.proofs]
    if promise.shrinks and not promise.healed and feeds.reason is None:
        checks.append(_equals_masked(examined, promise, feeds, options, context))
    return _Run(runners, feeds, tuple(checks))


def _evidence(examined: Examined, checks: Sequence[CheckResult], measured: _Measured) -> Evidence:
    pruned = f"{Path(examined.filename).stem}.pruned{examined.saved.suffix}"
    facts = _facts(examined.model, examined.filename), _facts(examined.saved, pruned)
    return Evidence(facts[0], facts[1], tuple(checks), **vars(measured))


def _too_large(examined: Examined, promise: Promise, before: Network) -> str | None:
    """Why a mask is not run: two runtimes would hold all weights, while every other step holds one tensor.

    A mask is proved by the weights alone. What got smaller or was trained must run, and data ask for it.
    """
    held = _bytes_held(before)
    if held <= MOST_BYTES or promise.shrinks or promise.healed or examined.data is not None:
        return None
    return (
        f"not run: the weights take {held / 2**30:.1f} GiB, and models over {MOST_BYTES / 2**30:.0f} GiB are "
        "run only on uploaded data"
    )


def _bytes_held(network: Network) -> int:
    return sum(value.const_value.nbytes for value in constants_in(network.structure) if value.const_value)


def prove_equal(examined: Examined, promise: Promise, context: Context) -> CheckResult:
    """Hold a shrunk network that is to be trained on to the full one that it was taken from."""
    options = LoadOptions(examined.inputs, context.scratch, device=context.device)
    full, _ = _runners(examined, options, context)
    infos = formats.load(examined.model, options).inputs
    feeds = find_feeds(examined.data, examined.inputs, infos, full, context)
    if feeds.reason is not None:
        return CheckResult(name=NAME, passed=True, detail="not run, as no inputs suit the upload itself")
    return _equals_masked(examined, promise, feeds, options, context)


def prove_same(examined: Examined, context: Context) -> CheckResult:
    """Hold a file whose channels are in another order to the file that it was made of, before anything is
    cut. What cannot be run is not proved."""
    options = LoadOptions(examined.inputs, context.scratch, device=context.device)
    upload = formats.load(examined.model, options)
    if _bytes_held(upload) > MOST_BYTES:
        return CheckResult(name=REORDERED, passed=False, detail="the model is too large to be run twice")
    before, _ = _runners(examined, options, context)
    feeds = find_feeds(examined.data, examined.inputs, upload.inputs, before, context)
    if feeds.reason is not None:
        return CheckResult(name=REORDERED, passed=False, detail="no inputs suit the upload itself")
    least = least_magnitudes(upload.structure)
    found = _equal((examined.model, examined.saved), feeds, least, options, context)
    detail = f"{found.detail}, before any weight was pruned"
    return CheckResult(name=REORDERED, passed=found.passed, detail=detail)


def _facts(path: Path, filename: str) -> FileFacts:
    size = measure_size(path)
    return FileFacts(filename, size.sha256, size.size_bytes, size.compressed_bytes)


def _runners(examined: Examined, options: LoadOptions, context: Context) -> tuple[Runner, Runner]:
    before = formats.runner(examined.model, options, context.threads)
    try:
        return before, formats.runner(examined.saved, options, context.threads)
    except EngineError as error:
        raise BrokenPromiseError(f"the runtime takes the upload but not the pruned file: {error}") from error


def _runs(runners: tuple[Runner, Runner], feeds: Feeds) -> CheckResult:
    before, after = runners
    name = f"runs in {after.runtime}"
    batch = next(iter(feeds.batches(1, 1)), None)
    if batch is None:
        return CheckResult(
            name=name, passed=True, detail="loads; not run, as no inputs suit the upload itself"
        )
    expected = before.run(batch.feeds)
    try:
        found = after.run(batch.feeds)
    except ModelNotRunnableError as error:
        return CheckResult(name=name, passed=False, detail=str(error)[:300])
    same = [(a.shape, a.dtype) for a in expected] == [(b.shape, b.dtype) for b in found]
    detail = (
        f"{len(found)} outputs of the same shape and type" if same else "outputs of another shape or type"
    )
    return CheckResult(name=name, passed=same, detail="; ".join(filter(None, (detail, after.remark))))


def _equals_masked(
    examined: Examined,
    promise: Promise,
    feeds: Feeds,
    options: LoadOptions,
    context: Context,
) -> CheckResult:
    upload = formats.load(examined.model, options)
    least = least_magnitudes(upload.structure)
    masked = write_masked(promise, upload, context.scratch)
    return _equal((masked, examined.saved), feeds, least, options, context, remark_on(promise))


def _equal(
    files: tuple[Path, Path],
    feeds: Feeds,
    least: Sequence[float],
    options: LoadOptions,
    context: Context,
    remark: str = "",
) -> CheckResult:
    """Both on the same rows; files in half precision in float32, where a difference is no rounding."""
    rows = [batch.feeds for batch in feeds.batches(RANDOM_ROWS, 1)]
    wide = wide_runners(*files, options, context, rows[0]) if rows else None
    if wide is not None:
        rows = [{name: wide_feed(array) for name, array in feed.items()} for feed in rows]
        return check_equal(*wide, rows, least, f"{remark}; both computed in float32")
    first, second = (formats.runner(path, options, context.threads) for path in files)
    return check_equal(first, second, rows, least, remark)


def _require(checks: Sequence[CheckResult]) -> None:
    broken = [f"{check.name} ({check.detail})" for check in checks if not check.passed]
    if broken:
        raise BrokenPromiseError(f"the pruned file failed its own verification: {'; '.join(broken)}"[:2000])


def _measure(examined: Examined, run: _Run, cause: str, context: Context) -> _Measured:
    feeds = run.feeds
    if feeds.reason is not None:
        return _Measured(
            agreement_reason=feeds.reason, accuracy_reason=feeds.reason, latency_reason=feeds.reason
        )
    total = RANDOM_ROWS if feeds.data is None else min(MOST_ROWS, feeds.data.rows)
    compared = compare(
        *run.runners,
        feeds.batches(MOST_ROWS, BATCH),
        feeds.source,
        seed=feeds.seed if feeds.data is None else None,
        progress=lambda rows: context.progress(min(rows, total), total, "rows"),
    )
    first = next(iter(feeds.batches(1, 1)))
    latency = measure_latency(
        *run.runners, first.feeds, batch=first.rows, budget_seconds=_LATENCY_SECONDS, cause=cause
    )
    if latency.remark.startswith(SLOWER):
        context.warn(latency.remark)
    return _Measured(
        agreement=compared.agreement,
        accuracy=compared.accuracy,
        accuracy_reason=compared.accuracy_reason if examined.data is not None else "no data was uploaded",
        latency=latency,
    )
