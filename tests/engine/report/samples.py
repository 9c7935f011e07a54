"""Reports to render: one like a real job's, and hypothesis strategies for every shape a report may take."""

import math
from datetime import UTC, datetime

import numpy as np
from hypothesis import strategies as st

from api_schemas.jobs import Refusal, Summary
from api_schemas.models import ModelFormat, TensorInfo
from api_schemas.recipe import PartSpec, Recipe, Target
from api_schemas.report import (
    AccuracyReport,
    AgreementReport,
    CheckResult,
    CurvePoint,
    DataSource,
    Environment,
    FileReport,
    Histogram,
    LatencyFigures,
    LatencyReport,
    LayerReport,
    MetricReport,
    OutputAgreement,
    RecoveryReport,
    Report,
    StageTime,
)

HOSTILE = [
    "<script>alert(1)</script>",
    "]]></style><script src='http://evil.example/x.js'>",
    "\x1b[31mred\x1b[0m",
    "nul\x00byte",
    "‮gnp.exe⁦",
    "x" * 10_000,
    "é̂̃̄̅̆̇" * 50,
    "{{ 7 * 7 }}{% raw %}",
    "\"' onmouseover=alert(1) x='",
    "</title><img src=x onerror=alert(1)>",
    "https://example.org/?a=1&b=2",
    "",
]


def recipe(**changes: object) -> Recipe:
    """The recipe of the preset `lookahead` at 90 %."""
    parts = {
        "criterion": "lookahead",
        "granularity": "element",
        "allocation": "uniform",
        "schedule": "one_shot",
        "apply": "mask",
        "recovery": "none",
    }
    specs = {axis: PartSpec(name=name) for axis, name in parts.items()}
    return Recipe.model_validate({"preset": "lookahead", **specs, "target": Target(sparsity=0.9), **changes})


def histogram(values: np.ndarray, *, log10: bool = False, bins: int = 40) -> Histogram:
    """A histogram as the engine takes it."""
    data = np.log10(values[values > 0]) if log10 else values
    counts, edges = np.histogram(data, bins=bins)
    return Histogram(edges=edges.tolist(), counts=counts.tolist(), log10=log10)


def layer(index: int, shape: tuple[int, ...], sparsity: float = 0.9, *, drawn: bool = True) -> LayerReport:
    """One layer, its weights drawn from a normal distribution and pruned by magnitude."""
    rng = np.random.default_rng(index)
    weights = rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
    scores = np.abs(weights).ravel()
    gone = round(sparsity * weights.size)
    threshold = float(np.sort(scores)[gone]) if gone < scores.size else float(scores.max())
    kept = weights.ravel()[scores >= threshold]
    return LayerReport(
        name=f"features.{index}.conv" if len(shape) == 4 else f"classifier.{index}",
        op="Conv" if len(shape) == 4 else "Gemm",
        weight=f"features.{index}.weight",
        shape=list(shape),
        parameters=weights.size,
        requested=sparsity,
        zeros_before=index % 3,
        zeros_after=gone,
        sparsity_before=(index % 3) / weights.size,
        sparsity_after=gone / weights.size,
        macs=weights.size * 64,
        macs_effective=(weights.size - gone) * 64,
        weights_before=histogram(weights) if drawn else None,
        weights_after=histogram(kept) if drawn and kept.size else None,
        scores=histogram(scores**2, log10=True) if drawn else None,
        score_threshold=threshold**2,
    )


SHAPES = [(32, 1, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (256, 2048), (10, 256)]


def report(**changes: object) -> Report:
    """A report as a job on a small convolutional network leaves it."""
    layers = [layer(index, shape) for index, shape in enumerate(SHAPES)]
    total = sum(item.parameters for item in layers)
    zeros = sum(item.zeros_after for item in layers)
    agreement = AgreementReport(
        source=DataSource.DATASET,
        rows=360,
        outputs=[
            OutputAgreement(name="logits", cosine=0.9612, max_abs_difference=4.31, top1_agreement=0.9583)
        ],
        remark="The top class is the same for 345 of 360 rows.",
    )
    fields: dict[str, object] = {
        "job_id": "job_01jd3v8m2kq7x5e0h9r4t6w8yz",
        "created_at": datetime(2026, 11, 20, 14, 5, tzinfo=UTC),
        "model_format": ModelFormat.ONNX,
        "opset": 17,
        "recipe": recipe(),
        "requested": 0.9,
        "achieved": zeros / total,
        "prunable_parameters": total,
        "summary": Summary(sparsity=zeros / total, output_cosine=0.9612),
        "before": FileReport(
            filename="digits_cnn.onnx",
            sha256="3f" * 32,
            size_bytes=2_563_210,
            compressed_bytes=2_371_004,
            parameters=total + 842,
            nonzero=total + 839,
            macs=41_234_432,
            macs_effective=41_233_000,
        ),
        "after": FileReport(
            filename="digits_cnn.pruned.onnx",
            sha256="a7" * 32,
            size_bytes=2_563_210,
            compressed_bytes=391_822,
            parameters=total + 842,
            nonzero=total + 842 - zeros,
            macs=41_234_432,
            macs_effective=4_123_443,
        ),
        "inputs": [TensorInfo(name="image", dtype="float32", shape=["batch", 1, 8, 8])],
        "outputs": [TensorInfo(name="logits", dtype="float32", shape=["batch", 10])],
        "layers": layers,
        "refusals": [
            Refusal(
                layer="features.1.norm",
                reason="a batch norm has one weight per channel; pruning it by element removes channels",
            ),
            Refusal(layer="head.bias", reason="excluded by the recipe (head.*)"),
        ],
        "latency": LatencyReport(
            runtime="ONNX Runtime 1.31.1",
            device="cpu",
            batch=1,
            threads=2,
            before=LatencyFigures(median_ms=0.8123, p90_ms=0.901, runs=200),
            after=LatencyFigures(median_ms=0.8091, p90_ms=0.899, runs=200),
            speedup=1.004,
            remark="Zeros alone do not make dense kernels faster: the runtime multiplies by them too.",
        ),
        "agreement": agreement,
        "accuracy": AccuracyReport(
            metric="top-1 accuracy", output="logits", rows=360, before=0.9722, after=0.9389
        ),
        "checks": [
            CheckResult(name="ONNX checker", passed=True, detail="full check of the pruned file"),
            CheckResult(
                name="interface", passed=True, detail="same inputs, outputs, opsets, metadata and names"
            ),
            CheckResult(name="kept weights", passed=True, detail="bit-identical in all 6 layers"),
            CheckResult(name="sparsity", passed=True, detail=f"{zeros:,} zeros recounted in the saved file"),
        ],
        "stages": [
            StageTime(stage=name, seconds=value)
            for name, value in (("loading", 0.21), ("scoring", 0.034), ("measuring", 4.2))
        ],
        "environment": Environment(
            device="cpu",
            threads=2,
            sandbox="strict",
            versions={"onnx": "1.23.2", "onnxruntime": "1.31.1", "torch": "2.13.0+cpu"},
        ),
        "seed": 0,
    }
    return Report.model_validate({**fields, **changes})


texts = st.one_of(st.text(max_size=30), st.sampled_from(HOSTILE))
counts = st.integers(0, 10**15)
shares = st.floats(0, 1)
numbers = st.floats(-1e9, 1e9) | st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf])
positive = st.floats(0, 1e6)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    """Histograms whole and broken: edges may be too few, unsorted or not finite."""
    edges = draw(
        st.lists(st.floats(-20, 20), max_size=8, unique=True).map(sorted) | st.lists(numbers, max_size=5)
    )
    size = max(0, len(edges) - 1) if draw(st.booleans()) else draw(st.integers(0, 5))
    return Histogram(
        edges=edges, counts=draw(st.lists(counts, min_size=size, max_size=size)), log10=draw(st.booleans())
    )


layers = st.builds(
    LayerReport,
    name=texts,
    op=texts,
    weight=texts,
    shape=st.lists(st.integers(0, 10**6), max_size=10),
    parameters=counts,
    requested=st.none() | shares,
    zeros_before=counts,
    zeros_after=counts,
    sparsity_before=shares,
    sparsity_after=shares,
    macs=st.none() | counts,
    macs_effective=st.none() | counts,
    weights_before=st.none() | histograms(),
    weights_after=st.none() | histograms(),
    scores=st.none() | histograms(),
    score_threshold=st.none() | numbers,
    notes=st.lists(texts, max_size=2),
)
files = st.builds(
    FileReport,
    filename=texts,
    sha256=texts,
    size_bytes=counts,
    compressed_bytes=counts,
    parameters=counts,
    nonzero=counts,
    macs=st.none() | counts,
    macs_effective=st.none() | counts,
)
latencies = st.builds(LatencyFigures, median_ms=positive, p90_ms=positive, runs=counts)
tensors = st.builds(
    TensorInfo,
    name=texts,
    dtype=texts,
    shape=st.none() | st.lists(st.none() | texts | st.integers(0, 10**6), max_size=4),
)
outputs = st.builds(
    OutputAgreement,
    name=texts,
    cosine=st.none() | st.floats(-1, 1),
    max_abs_difference=st.none() | numbers,
    top1_agreement=st.none() | shares,
)
targets = st.none() | st.sampled_from(
    [
        Target(sparsity=0.5),
        Target(macs=0.25),
        Target(latency=0.5),
        Target(size_bytes=0.1),
        Target(parameters=0.3),
        Target(accuracy_drop=1.5),
    ]
)
recipes = st.builds(recipe, target=targets, exclude=st.lists(texts, max_size=3), preset=st.none() | texts)
recoveries = st.builds(
    RecoveryReport,
    recovery=texts,
    chosen_because=texts,
    metric=st.none() | texts | st.just("top-1 accuracy"),
    lower_is_better=st.booleans(),
    before=st.none() | numbers,
    after=st.none() | numbers,
    steps=st.none() | counts,
    seconds=positive,
    kept=st.booleans(),
    remark=st.none() | texts,
    curve=st.lists(
        st.builds(
            CurvePoint,
            step=counts,
            loss=st.none() | numbers,
            learning_rate=positive,
            validation_loss=st.none() | numbers,
            validation_metric=st.none() | shares,
        ),
        max_size=4,
    ),
)
reports = st.builds(
    Report, job_id=texts,
    created_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    model_format=st.sampled_from(ModelFormat), opset=st.none() | st.integers(1, 30), recipe=recipes,
    requested=st.none() | shares, achieved=shares, prunable_parameters=counts,
    target_achieved=st.none() | shares,
    summary=st.builds(Summary, output_cosine=st.none() | st.floats(-1, 1)), before=files, after=files,
    inputs=st.lists(tensors, max_size=2), outputs=st.lists(tensors, max_size=2),
    layers=st.lists(layers, max_size=4),
    refusals=st.lists(st.builds(Refusal, layer=texts, reason=texts), max_size=3),
    latency=st.none() | st.builds(
        LatencyReport, runtime=texts, device=texts, batch=st.integers(1, 999), threads=st.integers(1, 64),
        before=latencies, after=latencies, speedup=positive, remark=texts,
    ),
    latency_reason=st.none() | texts,
    agreement=st.none() | st.builds(
        AgreementReport, source=st.sampled_from(DataSource), rows=counts,
        seed=st.none() | st.integers(0, 2**63),
        outputs=st.lists(outputs, max_size=3), remark=texts,
    ),
    agreement_reason=st.none() | texts,
    accuracy=st.none() | st.builds(
        AccuracyReport, metric=texts | st.just("top-1 accuracy"), output=texts, rows=counts, before=numbers,
        after=numbers, lower_is_better=st.booleans(),
        further=st.lists(
            st.builds(MetricReport, metric=texts | st.just("top-5 accuracy"), before=numbers, after=numbers),
            max_size=2,
        ),
    ),
    accuracy_reason=st.none() | texts,
    recovery=st.lists(recoveries, max_size=2),
    checks=st.lists(st.builds(CheckResult, name=texts, passed=st.booleans(), detail=texts), max_size=2),
    warnings=st.lists(texts, max_size=2),
    stages=st.lists(st.builds(StageTime, stage=texts, seconds=positive), max_size=2),
    environment=st.builds(
        Environment, device=texts, threads=st.integers(1, 64), sandbox=texts,
        versions=st.dictionaries(texts, texts, max_size=2),
    ),
    seed=st.integers(0, 2**63),
)  # fmt: skip
