"""Runners that compute two files of half precision in float32."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from api_schemas.models import ModelFormat
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.errors import EngineError
from worker.engine.formats.base import Array, LoadOptions, Runner
from worker.engine.formats.onnx_widened import wide_feed, widened
from worker.engine.formats.torch_module import TorchscriptRunner


def wide_runners(
    first: Path, second: Path, options: LoadOptions, context: Context, feed: Mapping[str, Array]
) -> tuple[Runner, Runner] | None:
    """Both in float32; None where nothing is half, and where the runtime cannot run it so, on `feed`."""
    if formats.format_of(first).format is ModelFormat.TORCHSCRIPT:
        return _wide_modules((first, second), options, context, feed)
    if formats.format_of(first).format is not ModelFormat.ONNX:
        return None
    folder = Path(tempfile.mkdtemp(prefix="float32-", dir=context.scratch))
    try:
        wide = [widened(path, options, folder / str(place)) for place, path in enumerate((first, second))]
        if wide[0] is None or wide[1] is None:
            return None
        one, other = (formats.runner(path, options, context.threads) for path in wide if path is not None)
    except EngineError:
        return None
    return one, other


def _wide_modules(
    paths: tuple[Path, Path], options: LoadOptions, context: Context, feed: Mapping[str, Array]
) -> tuple[Runner, Runner] | None:
    """Code may ask for half precision itself: then it does not run with other weights."""
    one, other = (
        TorchscriptRunner(path, options.inputs, options.device, context.threads, wide=True) for path in paths
    )
    if not (one.widened and other.widened):
        return None
    try:
        for runner in (one, other):
            runner.run({name: wide_feed(array) for name, array in feed.items()})
    except EngineError:
        return None
    return one, other
