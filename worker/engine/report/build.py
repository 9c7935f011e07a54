"""The JSON report, put together from what the stages kept and what verification measured."""

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version

from api_schemas.jobs import Refusal, Summary
from api_schemas.recipe import Recipe
from api_schemas.report import Environment, FileReport, LayerReport, Report
from worker.engine.context import Context
from worker.engine.formats.base import Network
from worker.engine.graph.layer import Layer
from worker.engine.learning.distributed import World
from worker.engine.report.history import History, Snapshot, as_schema
from worker.engine.types import Evidence, FileFacts, LayerPlan

_PACKAGES = ("lookahead-compression", "torch", "onnx", "onnx-ir", "onnxruntime", "numpy")


def build_report(
    network: Network, recipe: Recipe, history: History, evidence: Evidence, context: Context
) -> Report:
    """The report of a job that has passed its verification."""
    graph, first, last = history.complete()
    layers = [_layer(layer, history) for layer in graph.layers]
    prunable = sum(layer.parameters for layer in layers)
    achieved = sum(layer.zeros_after for layer in layers) / prunable
    before, after = _file(evidence.before, first), _file(evidence.after, last)
    _warn_of_dead_layers(layers, context)
    return Report(
        job_id=context.job_id,
        created_at=datetime.now(UTC),
        model_format=network.format,
        opset=network.opset,
        recipe=recipe,
        requested=recipe.target.sparsity
        if recipe.target is not None and not history.whole_channels()
        else None,
        achieved=achieved,
        prunable_parameters=prunable,
        summary=_summary(achieved, before, after, evidence),
        before=before,
        after=after,
        inputs=list(network.inputs),
        outputs=list(network.outputs),
        layers=layers,
        refusals=[Refusal(layer=layer.name, reason=layer.reason or "") for layer in graph.refused],
        latency=evidence.latency,
        latency_reason=evidence.latency_reason,
        agreement=evidence.agreement,
        agreement_reason=evidence.agreement_reason,
        accuracy=evidence.accuracy,
        accuracy_reason=evidence.accuracy_reason,
        recovery=list(context.healed),
        checks=list(evidence.checks),
        warnings=list(context.warnings),
        stages=list(context.times),
        environment=_environment(context),
        seed=context.seed,
    )


def _layer(layer: Layer, history: History) -> LayerReport:
    _, first, last = history.complete()
    plan: LayerPlan | None = history.plan.of(layer.name) if history.plan is not None else None
    # A weight that was read through a Reshape goes by another name in a smaller file: then the plan counts.
    known = layer.name in last.shapes or plan is None
    gone = layer.size - last.nonzero_of(layer.name) if known or plan is None else plan.pruned
    shrunk = known and last.shapes[layer.name] != layer.shape
    return LayerReport(
        name=layer.name,
        op=layer.op,
        weight=layer.weight,
        shape=list(layer.shape),
        parameters=layer.size,
        requested=None if plan is None or history.whole_channels() else plan.requested,
        zeros_before=first.zeros[layer.name],
        zeros_after=gone,
        sparsity_before=first.zeros[layer.name] / layer.size,
        sparsity_after=gone / layer.size,
        parameters_after=last.size(layer.name) if shrunk else None if known else layer.size - gone,
        shape_after=list(last.shapes[layer.name]) if shrunk else None,
        macs=layer.macs,
        macs_effective=_effective(layer, last) if known else None,
        weights_before=first.histograms[layer.name],
        weights_after=last.histograms.get(layer.name),
        scores=None if plan is None else as_schema(plan.scores),
        score_threshold=None if plan is None else plan.threshold,
        notes=_notes(layer),
    )


def _notes(layer: Layer) -> list[str]:
    shared = [f"shared by {len(layer.uses)} operators"] if len(layer.uses) > 1 else []
    quantised = ["stored as quantised integers; zero means the zero point"] if layer.view.quantization else []
    return [*shared, *quantised, *layer.notes]


def _effective(layer: Layer, now: Snapshot) -> int | None:
    """MACs that multiply by something other than zero."""
    macs, size = now.macs.get(layer.name), now.size(layer.name)
    return None if macs is None or not size else round(macs * now.nonzero_of(layer.name) / size)


def _file(facts: FileFacts, at: Snapshot) -> FileReport:
    return FileReport(
        filename=facts.filename,
        sha256=facts.sha256,
        size_bytes=facts.size_bytes,
        compressed_bytes=facts.compressed_bytes,
        parameters=at.parameters,
        nonzero=at.nonzero,
        macs=at.dense_macs(),
        macs_effective=at.effective_macs(),
    )


def _summary(achieved: float, before: FileReport, after: FileReport, evidence: Evidence) -> Summary:
    latency, accuracy = evidence.latency, evidence.accuracy
    cosines = [output.cosine for output in evidence.agreement.outputs] if evidence.agreement else []
    known = [cosine for cosine in cosines if cosine is not None]
    return Summary(
        sparsity=achieved,
        parameters_before=before.parameters,
        parameters_after=after.parameters,
        nonzero_after=after.nonzero,
        macs_before=before.macs,
        macs_after=after.macs,
        size_bytes_before=before.size_bytes,
        size_bytes_after=after.size_bytes,
        compressed_bytes_before=before.compressed_bytes,
        compressed_bytes_after=after.compressed_bytes,
        latency_ms_before=latency.before.median_ms if latency else None,
        latency_ms_after=latency.after.median_ms if latency else None,
        accuracy_before=accuracy.before if accuracy else None,
        accuracy_after=accuracy.after if accuracy else None,
        accuracy_metric=accuracy.metric if accuracy else None,
        output_cosine=min(known) if known else None,
    )


def _warn_of_dead_layers(layers: list[LayerReport], context: Context) -> None:
    dead = [layer.name for layer in layers if layer.zeros_after == layer.parameters]
    if dead:
        names = ", ".join(dead[:5]) + (f" and {len(dead) - 5} more" if len(dead) > 5 else "")
        context.warn(
            f"nothing is left of {len(dead)} layer(s): {names}; what comes after sees only their biases"
        )


def _environment(context: Context) -> Environment:
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    versions["platform"] = f"{sys.platform} {platform.machine()}"
    return Environment(
        device=context.device,
        processes=World.present().size,
        threads=context.threads,
        sandbox=context.sandbox,
        versions=versions,
    )
