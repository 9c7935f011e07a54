"""Runners that compute two files of half precision in float32."""

import tempfile
from pathlib import Path

from api_schemas.models import ModelFormat
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.errors import EngineError
from worker.engine.formats.base import LoadOptions, Runner
from worker.engine.formats.onnx_widened import widened


def wide_runners(
    first: Path, second: Path, options: LoadOptions, context: Context
) -> tuple[Runner, Runner] | None:
    """Both in float32; None where nothing is half, and where the runtime has no kernel for it so."""
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
