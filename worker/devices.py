"""Which GPUs are there for children, told without loading anything that would open them."""

import os
import re
from pathlib import Path
from typing import Final

_HIDDEN: Final = ("", "-1", "none", "void", "NoDevFiles")
_DEVICES: Final = Path("/dev")


def cuda_visible() -> bool:
    """True when the driver's device is there and `CUDA_VISIBLE_DEVICES` does not hide it."""
    return (_DEVICES / "nvidiactl").exists() and os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in _HIDDEN


def cuda_devices() -> tuple[str, ...]:
    """The GPUs that a child may be given, each as `CUDA_VISIBLE_DEVICES` names it; none without a driver.

    Those that the worker's own `CUDA_VISIBLE_DEVICES` lists, else as many as the driver has devices for.
    """
    if not cuda_visible():
        return ()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return tuple(filter(None, (name.strip() for name in listed.split(","))))
    found = [path for path in _DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return tuple(str(number) for number in range(len(found)))


def device() -> str:
    """``cuda`` or ``cpu``, as orders name it."""
    return "cuda" if cuda_visible() else "cpu"
