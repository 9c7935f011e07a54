"""Peak memory of pruning a model of 1.5 billion parameters whose weights lie outside the ONNX file.

The model is written tensor by tensor: blocks of two matrix products around a residual addition. The job
runs in a process of its own, as the worker starts it; its peak is what the kernel reports when it has ended
(`ru_maxrss`: resident pages, those of mapped files among them). The bar is 1.3 times the largest tensor
plus 1 GB.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from api_schemas.jobs import ChildOrder, ChildResult
from api_schemas.recipe import RecipeRequest, resolve
from benchmarks.output import markdown, note, parser, save, say
from worker.engine.catalogue import catalogue
from worker.engine.context import silent
from worker.engine.orders import run_order

Array = np.ndarray[Any, np.dtype[Any]]

_RECIPE = {"preset": "lookahead", "target": {"sparsity": 0.5}}
#: Random numbers that fill every tensor from another place on: as good as fresh ones here, and fast.
_POOL = 1 << 24
_RESULT = "result.json"
#: How often the model's bytes lie on disk at once: as sent, masked, staged, packed, and read back.
_COPIES = 5
_TYPES = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


def write(folder: Path, blocks: int, width: int, dtype: str) -> Path:
    """The model with its data beside it, as `model.onnx` and `model.onnx.data`."""
    shapes = {f"block{n}.{part}": shape for n in range(blocks) for part, shape in _parts(width)}
    tensors, offset = [], 0
    with (folder / "model.onnx.data").open("wb") as data:
        for array, (name, shape) in zip(_random(shapes.values(), dtype), shapes.items(), strict=True):
            data.write(array.tobytes())
            tensors.append(_outside(name, shape, _TYPES[dtype], offset, array.nbytes))
            offset += array.nbytes
    path = folder / "model.onnx"
    onnx.save(_model(tensors, blocks, width, _TYPES[dtype]), path)
    return path


def _parts(width: int) -> Iterator[tuple[str, tuple[int, int]]]:
    yield "up", (width, 4 * width)
    yield "down", (4 * width, width)


def _random(shapes: Iterable[tuple[int, int]], dtype: str) -> Iterator[Array]:
    rng = np.random.default_rng(0)
    pool = (rng.standard_normal(_POOL, np.float32) * 0.02).astype(dtype)
    for shape in shapes:
        yield np.resize(np.roll(pool, int(rng.integers(_POOL))), shape)


def _outside(name: str, shape: tuple[int, int], kind: int, offset: int, length: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": "model.onnx.data", "offset": str(offset), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _model(tensors: list[TensorProto], blocks: int, width: int, kind: int) -> onnx.ModelProto:
    nodes = []
    for number in range(blocks):
        at = f"block{number}"
        nodes += [
            helper.make_node("MatMul", [f"x{number}", f"{at}.up"], [f"{at}.wide"]),
            helper.make_node("Relu", [f"{at}.wide"], [f"{at}.active"]),
            helper.make_node("MatMul", [f"{at}.active", f"{at}.down"], [f"{at}.narrow"]),
            helper.make_node("Add", [f"x{number}", f"{at}.narrow"], [f"x{number + 1}"]),
        ]
    ends = [helper.make_tensor_value_info(f"x{number}", kind, ["rows", width]) for number in (0, blocks)]
    graph = helper.make_graph(nodes, "blocks", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def pruned(folder: Path, threads: int) -> tuple[ChildResult, int, float]:
    """(result, peak bytes, seconds) of the job, which runs in a process of its own."""
    (folder / "output").mkdir()
    begun = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.streaming", "--job", str(folder), "--threads", str(threads)]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    result = ChildResult.model_validate_json((folder / _RESULT).read_bytes())
    return result, usage.ru_maxrss * 1024, time.perf_counter() - begun


def job(folder: Path, threads: int) -> int:
    """The child's side: one order, as the supervisor would write it."""
    recipe = resolve(RecipeRequest.model_validate(_RECIPE), catalogue().preset_axes())
    order = ChildOrder(
        kind="prune",
        job_id="streaming",
        model="model.onnx",
        filename="model.onnx",
        recipe=recipe,
        threads=threads,
    )
    (folder / _RESULT).write_text(run_order(order, folder, silent).model_dump_json())
    return 0


def main() -> int:
    """Write the model, prune it, hold the peak to the bar."""
    arguments = parser(__doc__)
    arguments.add_argument("--blocks", type=int, default=48)
    arguments.add_argument("--width", type=int, default=1984)
    arguments.add_argument("--dtype", choices=list(_TYPES), default="float16")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--folder", type=Path, help="where to work; needs five times the model's size")
    arguments.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.job is not None:
        return job(options.job, options.threads)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        return measured(Path(name), options)


def measured(folder: Path, options: argparse.Namespace) -> int:
    """Everything but the command line."""
    size = 8 * options.width**2 * options.blocks * np.dtype(options.dtype).itemsize
    if shutil.disk_usage(folder).free < _COPIES * size:
        raise SystemExit(f"{folder} has no room for {_COPIES} times {size / 1e9:.1f} GB")
    write(folder, options.blocks, options.width, options.dtype)
    note(f"written: {size / 1e9:.1f} GB")
    result, peak, seconds = pruned(folder, options.threads)
    if result.error is not None or result.summary is None:
        raise SystemExit(f"the job failed: {result.error}")
    largest = 4 * options.width**2 * np.dtype(options.dtype).itemsize
    bar = 1.3 * largest + 1e9
    rows = [
        ("parameters", f"{result.summary.parameters_before:,}"),
        ("non-zero afterwards", f"{result.summary.nonzero_after:,}"),
        ("data file", f"{size / 1e9:.2f} GB of {options.dtype}"),
        ("largest tensor", f"{largest / 1e6:.0f} MB"),
        ("peak memory of the job", f"{peak / 1e6:,.0f} MB"),
        ("bar", f"{bar / 1e6:,.0f} MB"),
        ("seconds, verification included", f"{seconds:.0f}"),
    ]
    say(markdown(("", ""), rows))
    say("held" if peak <= bar else "missed")
    save(options.json, {"peak_bytes": peak, "bar_bytes": bar, "bytes": size, "seconds": seconds})
    return 0 if peak <= bar else 1


if __name__ == "__main__":
    sys.exit(main())
