"""Zips of small pictures whose pixels tell which file they came from."""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def png(value: int | tuple[int, int, int] | np.ndarray, size: tuple[int, int] = (8, 8)) -> bytes:
    """One colour (grey for a number), width and height as Pillow has them; or the pixels given."""
    if isinstance(value, np.ndarray):
        image = Image.fromarray(value)
    else:
        image = Image.new("L" if isinstance(value, int) else "RGB", size, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def zipped(
    path: Path, files: Mapping[str, bytes], preprocessing: Mapping[str, Any] | None = None, **options: Any
) -> Path:
    """A zip with these files."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        if preprocessing is not None:
            archive.writestr("preprocessing.json", json.dumps(preprocessing))
    return path
