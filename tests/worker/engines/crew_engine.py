"""An engine for tests of several processes: the file is called after what the leader and the others do."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import scripted_engine

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import ChildOrder, ChildResult

Emit = Callable[[ChildEvent], None]


def run_order(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Of ``wait-killed.onnx`` the leader waits for the others, and they are killed."""
    acts = Path(order.filename).stem.split("-")
    act = acts[0] if order.world is None or order.world.rank == 0 else acts[1]
    if act in _ACTS:
        return _ACTS[act](order, directory, emit)
    return scripted_engine.run_order(order.model_copy(update={"filename": f"{act}.onnx"}), directory, emit)


def wait(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Waits for the others as the engine does, and finds them gone."""
    emit(ChildEvent(type=EventType.STAGE, data={"stage": "recovering"}))
    assert order.world is not None
    assert os.read(order.world.reads[0], 64) == b""
    return ChildResult(error=JobError(code=ErrorCode.WORKER_LOST, message="another process is gone"))


def meet(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Tells the others where it is and what it sees, hears the same of them, and reports all of it."""
    world = order.world
    assert world is not None and world.size == 3
    own = f"{world.rank}:{order.threads}:{os.environ.get('CUDA_VISIBLE_DEVICES')}:{_seen(order, directory)}"
    if world.rank != 0:
        emit(ChildEvent(type=EventType.WARNING, data={"message": "a peer that speaks"}))
        os.write(world.writes[0], own.encode())
        assert os.read(world.reads[0], 64) == b"go"
        return scripted_engine.run_order(order.model_copy(update={"filename": "ok.onnx"}), directory, emit)
    heard = [os.read(pipe, 4096).decode() for pipe in world.reads]
    for pipe in world.writes:
        os.write(pipe, b"go")
    emit(ChildEvent(type=EventType.WARNING, data={"message": " ".join([own, *heard])}))
    return scripted_engine.run_order(order.model_copy(update={"filename": "ok.onnx"}), directory, emit)


def alone(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """A job without a world."""
    assert order.world is None
    return scripted_engine.run_order(order.model_copy(update={"filename": "ok.onnx"}), directory, emit)


def stuck(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Neither comes nor goes."""
    time.sleep(600)
    raise AssertionError


def _seen(order: ChildOrder, directory: Path) -> str:
    files = sorted(path.name for path in (directory / "input").iterdir())
    return f"{order.sandbox}:{','.join(files)}"


_ACTS = {"wait": wait, "meet": meet, "alone": alone, "stuck": stuck}
