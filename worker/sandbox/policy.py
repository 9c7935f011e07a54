"""What a confined process may see: every path here is a decision."""

import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class SandboxMode(StrEnum):
    """`strict` wants every layer or refuses; `best_effort` runs with those there are; `off` with none."""

    STRICT = "strict"
    BEST_EFFORT = "best_effort"
    OFF = "off"


#: Shared libraries and what the loader, the C library and the thread pools read about the machine.
_SYSTEM = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/self",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/sys/bus/pci/devices",
    "/sys/devices/pci*",
)
#: What the CUDA driver opens. IOCTL_DEV is left unhandled on purpose: the driver is all ioctls.
_CUDA_READ = (
    "/usr/local/cuda*",
    "/opt/nvidia",
    "/proc/driver/nvidia*",
    "/proc/devices",
    "/proc/modules",
    "/proc/sys/kernel",
    "/sys/bus/pci",
    "/sys/module/nvidia*",
    "/etc/OpenCL",
)
_CUDA_WRITE = ("/dev/nvidia*", "/dev/nvidia-caps")


@dataclass(frozen=True)
class Paths:
    """Files and folders by what may be done with them. Those that do not exist are passed over."""

    read: tuple[Path, ...]
    use: tuple[Path, ...]
    own: tuple[Path, ...]


def paths(directory: Path, *, cuda: bool) -> Paths:
    """What the job in `directory` may touch: libraries and devices to read, its directory to own."""
    patterns = _SYSTEM + (_CUDA_READ if cuda else ())
    read = [*_expand(patterns), *_python()]
    use = [Path("/dev/null"), *(_expand(_CUDA_WRITE) if cuda else ())]
    return Paths(tuple(read), tuple(use), (directory,))


def _expand(patterns: tuple[str, ...]) -> list[Path]:
    return [found for pattern in patterns for found in sorted(Path("/").glob(pattern.lstrip("/")))]


def _python() -> list[Path]:
    """The interpreter with its packages. Of a source checkout only our own packages, not the tree around."""
    root = Path(__file__).resolve().parents[2]
    ours = [root / "worker", root / "api_schemas"]
    installed = [Path(entry).resolve() for entry in sys.path if entry]
    prefixes = [Path(prefix).resolve() for prefix in (sys.prefix, sys.base_prefix)]
    return [path for path in [*ours, *prefixes, *installed] if path != root]
