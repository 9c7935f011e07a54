"""A worker by hand: claims from the real store and ends jobs as told. Only the pruning is absent."""

import json
import uuid
from pathlib import Path

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Progress, Stage, Summary
from api_schemas.models import Inspection, LayerInfo, ModelFormat, TensorInfo
from store import Store
from store.records import BlobRef, Claim, JobKind, Outcome

PRUNED = bytes(range(256)) * 64
REPORT = {"version": 1, "summary": {"sparsity": 0.8}}
PAGE = b"<!doctype html><title>report</title>"


def inspection(**changes: object) -> Inspection:
    values: dict[str, object] = {
        "format": ModelFormat.ONNX,
        "opset": 17,
        "inputs": [TensorInfo(name="x", dtype="float32", shape=["n", 1, 8, 8])],
        "outputs": [TensorInfo(name="y", dtype="float32", shape=["n", 10])],
        "parameters": 100,
        "layers": [
            LayerInfo(
                name="conv1", op="Conv", weight="conv1.weight", shape=[4, 1, 3, 3], parameters=36,
                prunable=True,
            ),
            LayerInfo(
                name="bn", op="BatchNormalization", weight="bn.weight", shape=[4], parameters=4,
                prunable=False, reason="batch norm is not pruned",
            ),
        ],
    }  # fmt: skip
    return Inspection.model_validate(values | changes)


class Hand:
    """Works on queued jobs, one call at a time."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder

    def claim(self, kind: JobKind) -> Claim:
        claim = self.store.jobs.claim("hand", kinds=[kind])
        assert claim is not None, f"no {kind} job is queued"
        return claim

    def inspect(self, found: Inspection | None = None) -> None:
        self.store.jobs.finish(self.claim(JobKind.INSPECT), Outcome(inspection=found or inspection()))

    def reject(self, code: ErrorCode = ErrorCode.INVALID_MODEL) -> None:
        error = JobError(code=code, message="It is broken.", hint="Mend it.")
        self.store.jobs.fail(self.claim(JobKind.INSPECT), error, retry=False)

    def publish(self, data: bytes, filename: str) -> BlobRef:
        path = self.folder / uuid.uuid4().hex
        path.write_bytes(data)
        return self.store.blobs.publish(path, filename)

    def start(self) -> Claim:
        claim = self.claim(JobKind.PRUNE)
        self.store.jobs.record(
            claim,
            [ChildEvent(type=EventType.STAGE, data={"stage": "scoring"})],
            stage=Stage.SCORING,
            progress=Progress(done=1, total=4, unit="layers"),
        )
        return claim

    def finish(self, claim: Claim, model: bytes = PRUNED, filename: str = "net.onnx") -> None:
        outcome = Outcome(
            summary=Summary(sparsity=0.8, parameters_before=100),
            model=self.publish(model, filename),
            report=self.publish(json.dumps(REPORT).encode(), "report.json"),
            page=self.publish(PAGE, "report.html"),
        )
        self.store.jobs.finish(claim, outcome)

    def fail(self, claim: Claim, code: ErrorCode = ErrorCode.TIME_LIMIT) -> None:
        self.store.jobs.fail(claim, JobError(code=code, message="Too slow.", hint="Wait."), retry=False)
