"""Whether a GPU is there for the child, told without loading anything that would open it."""

import os
from pathlib import Path

_HIDDEN = ("", "-1", "none", "void", "NoDevFiles")


def cuda_visible() -> bool:
    """True when the driver's device is there and `CUDA_VISIBLE_DEVICES` does not hide it."""
    return Path("/dev/nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in _HIDDEN


def device() -> str:
    """``cuda`` or ``cpu``, as orders name it."""
    return "cuda" if cuda_visible() else "cpu"
