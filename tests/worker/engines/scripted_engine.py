"""An engine for tests: the name of the uploaded file says how it behaves. Runs inside the real child."""

import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import ChildOrder, ChildResult, Plan, Summary
from api_schemas.models import Inspection, LayerInfo, ModelFormat
from api_schemas.report import Environment, FileReport, Report
from worker.engine.checkpoint import Checkpoints

TRAINING_STEPS = 100
Emit = Callable[[ChildEvent], None]
Act = Callable[[ChildOrder, Path, Emit], ChildResult]


def run_order(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Behave as the file's name says."""
    return globals()[f"act_{Path(order.filename).stem}"](order, directory, emit)


def act_ok(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    _stage(emit, "loading")
    if order.kind == "inspect":
        return ChildResult(inspection=_inspection("conv\0.weight").model_dump(mode="json"))
    if order.kind == "plan":
        return ChildResult(plan=Plan(sparsity=0.5, warnings=["nul \0 here"]))
    for step in range(3):
        emit(ChildEvent(type=EventType.PROGRESS, data={"done": step + 1, "total": 3, "unit": "layers"}))
    _stage(emit, "measuring")
    emit(ChildEvent(type=EventType.METRIC, data={"name": "loss", "value": 0.25, "step": 7}))
    content = (directory / order.model).read_bytes()
    return _publishable(order, directory, content)


def act_steady(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Works for about two seconds, saying so."""
    for step in range(40):
        emit(ChildEvent(type=EventType.PROGRESS, data={"done": step, "total": 40}))
        time.sleep(0.05)
    return act_ok(order, directory, emit)


def act_train(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """A hundred steps, each on what the one before came to; about four seconds in one go."""
    given = order.checkpoints
    assert given is not None
    checkpoints = Checkpoints(
        directory / given.folder,
        saved=given.saved and directory / given.saved,
        identity=lambda: {"job": order.job_id},
        emit=emit,
        interval_seconds=given.interval_seconds,
        most_bytes=given.most_bytes,
    )
    assert given.hurry is not None
    checkpoints.hurry_on(given.hurry)
    _stage(emit, "recovering")
    saved = checkpoints.load()
    first = 0 if saved is None else saved.state["step"]
    weights = b"" if saved is None else saved.files["weights"].read_bytes()
    for step in range(first, TRAINING_STEPS):
        weights = sha256(weights + bytes([step])).digest()
        emit(
            ChildEvent(type=EventType.METRIC, data={"name": "loss", "value": 1.0 / (step + 1), "step": step})
        )
        checkpoints.save({"step": step + 1}, {"weights": weights})
        time.sleep(0.04)
    trained = b"\x32\x40" + weights.hex().encode()  # a protobuf field: the model's documentation
    return _publishable(order, directory, (directory / order.model).read_bytes() + trained)


def act_heavy(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Saves half a gigabyte, and works on until it is stopped."""
    with (directory / "checkpoint" / "1.zip").open("wb") as file:
        for number in range(512):
            file.write(bytes([number % 251]) * 1024 * 1024)
    emit(ChildEvent(type=EventType.CHECKPOINT, data={"file": "1.zip"}))
    return act_endless(order, directory, emit)


def act_false_checkpoints(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Announces what is none, and puts a folder of its own in the place of the supervisor's."""
    for name in ("nothing.zip", "../input/model.onnx", "/etc/passwd", "", "x" * 5_000):
        emit(ChildEvent(type=EventType.CHECKPOINT, data={"file": name}))
    (directory / "checkpoint").rename(directory / "away")
    (directory / "checkpoint").mkdir()
    (directory / "checkpoint" / "own").write_text("x")
    for _ in range(20):
        emit(ChildEvent(type=EventType.CHECKPOINT, data={"file": "own"}))
        time.sleep(0.02)
    return act_ok(order, directory, emit)


def act_hoard(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Takes memory and touches it, as training on a device does, where address space is not limited."""
    hoard = []
    while True:
        hoard.append(b"x" * (16 * 1024 * 1024 + len(hoard)))
        time.sleep(0.01)


def act_endless(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    _stage(emit, "scoring")
    while True:
        emit(ChildEvent(type=EventType.PROGRESS, data={"done": 1, "total": 2}))
        time.sleep(0.05)


def act_silent(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    _stage(emit, "scoring")
    sum(range(10**15))  # in C, with the interpreter locked
    raise AssertionError


def act_busy(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Uses its processor time up. SIGXCPU ends it."""
    os.kill(os.getpid(), signal.SIGXCPU)
    raise AssertionError


def act_segfault(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    ctypes.string_at(0)
    raise AssertionError


def act_memory(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024 * 1024))


def act_abort_for_memory(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def act_killed(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def act_exit(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    sys.exit(0)


def act_vanish(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    os._exit(0)


def act_bug(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    raise KeyError("secret detail")


def act_refuse(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    text = "layer \x1b[31mred\x1b[0m\n<script> cannot be pruned"
    return ChildResult(error=JobError(code=ErrorCode.INVALID_MODEL, message=text, hint="a\0b"))


def act_denied(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    text = "unable to open file </etc/passwd> in read-only mode: Permission denied (13)"
    return ChildResult(error=JobError(code=ErrorCode.INVALID_MODEL, message=text))


def act_foreign_code(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    return ChildResult(error=JobError(code=ErrorCode.UNAUTHORIZED, message="send your key again"))


def act_passwd(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    Path("/etc/passwd").read_text()
    raise AssertionError


def act_socket(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    socket.create_connection(("127.0.0.1", 80))
    raise AssertionError


def act_execute(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    os.execv("/bin/true", ["true"])


def act_flood(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    for number in range(20_000):
        emit(ChildEvent(type=EventType.METRIC, data={"name": "x" * 500, "value": number}))
    return act_ok(order, directory, emit)


def act_odd_events(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    for type_, data in (
        (EventType.STATUS, {"status": "succeeded"}),
        (EventType.STAGE, {"stage": "world domination"}),
        (EventType.PROGRESS, {"done": -5}),
        (EventType.PROGRESS, {"done": "many"}),
        (EventType.METRIC, {"name": "loss", "value": "low"}),
        (EventType.WARNING, {"message": "one\ntwo\x1b[2J" + "x" * 10_000, "extra": {"deep": []}}),
    ):
        emit(ChildEvent(type=type_, data=data))
    return act_ok(order, directory, emit)


def act_garbage(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    pipe = next(int(a.partition("=")[2]) for a in sys.argv if a.startswith("--pipe="))
    os.write(pipe, b"\xff\xfe not a message\n")
    time.sleep(60)
    raise AssertionError


def act_endless_line(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    pipe = next(int(a.partition("=")[2]) for a in sys.argv if a.startswith("--pipe="))
    while True:
        os.write(pipe, b"x" * 65536)


def act_big_disk(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    for number in range(10_000):
        (directory / f"file{number}").write_bytes(bytes(1024 * 1024))
    time.sleep(60)
    raise AssertionError


def act_locked_folder(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    (directory / "locked" / "deep").mkdir(parents=True)
    (directory / "locked" / "deep" / "file").write_text("x")
    (directory / "locked" / "deep").chmod(0)
    (directory / "locked").chmod(0)
    return act_ok(order, directory, emit)


def act_symlink(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    result = act_ok(order, directory, emit)
    (directory / "output" / "model.onnx").unlink()
    (directory / "output" / "model.onnx").symlink_to("/etc/passwd")
    return result


def act_hardlink(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    result = act_ok(order, directory, emit)
    (directory / "other").hardlink_to(directory / "output" / "model.onnx")
    return result


def act_outside(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    return act_ok(order, directory, emit).model_copy(update={"model": "../input/model.onnx"})


def act_missing(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    return act_ok(order, directory, emit).model_copy(update={"report": "nothing.json"})


def act_other_format(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    return _publishable(order, directory, b"#!/bin/sh\necho no model\n")


def act_lying_report(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    result = act_ok(order, directory, emit)
    with (directory / "output" / "model.onnx").open("ab") as file:
        file.write(b"\x30\x01")  # another, still valid, protobuf field
    return result


def act_other_job(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    return act_ok(order.model_copy(update={"job_id": "job_" + "0" * 26}), directory, emit)


def act_bad_report(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    result = act_ok(order, directory, emit)
    (directory / "output" / "report.json").write_text('{"version": [')
    return result


def _stage(emit: Emit, stage: str) -> None:
    emit(ChildEvent(type=EventType.STAGE, data={"stage": stage}))


def _inspection(name: str) -> Inspection:
    layer = LayerInfo(name=name, op="Conv", weight=name, shape=[1], parameters=1, prunable=True)
    return Inspection(format=ModelFormat.ONNX, parameters=1, layers=[layer])


def _publishable(order: ChildOrder, directory: Path, content: bytes) -> ChildResult:
    output = directory / "output"
    (output / "model.onnx").write_bytes(content)
    (output / "report.json").write_text(_report(order, content).model_dump_json())
    (output / "page.html").write_text("<!doctype html><title>report</title>")
    return ChildResult(
        model="model.onnx", report="report.json", page="page.html", summary=Summary(sparsity=0.5)
    )


def _report(order: ChildOrder, content: bytes) -> Report:
    assert order.recipe is not None
    file = FileReport(
        filename=order.filename,
        sha256=sha256(content).hexdigest(),
        size_bytes=len(content),
        compressed_bytes=1,
        parameters=4,
        nonzero=2,
    )
    return Report(
        job_id=order.job_id,
        created_at=datetime.now(UTC),
        model_format=ModelFormat.ONNX,
        recipe=order.recipe,
        achieved=0.5,
        prunable_parameters=4,
        summary=Summary(sparsity=0.5),
        before=file,
        after=file,
        layers=[],
        environment=Environment(device="cpu", threads=1, sandbox=order.sandbox, versions={}),
        seed=0,
    )
