"""`enter`: every layer, in the order in which they do not get in each other's way."""

from dataclasses import dataclass
from pathlib import Path

from worker.errors import SandboxUnavailableError
from worker.sandbox import landlock, limits, policy, privileges, syscalls
from worker.sandbox.policy import SandboxMode


@dataclass(frozen=True)
class Confinement:
    """What holds. `missing` is empty under `strict`."""

    mode: SandboxMode
    missing: tuple[str, ...] = ()

    def describe(self) -> str:
        """One line for reports and readiness: ``strict``, ``best_effort, without landlock``, ``off``."""
        return f"{self.mode}, without {', '.join(self.missing)}" if self.missing else str(self.mode)


def enter(mode: SandboxMode, directory: Path, *, cuda: bool = False) -> Confinement:
    """Confine this process to `directory` for the rest of its life.

    Call it with one thread. Raises `SandboxUnavailableError` under `strict` when a layer is missing,
    before anything has been given up.
    """
    if mode is SandboxMode.OFF:
        return Confinement(mode)
    missing = survey()
    if missing and mode is SandboxMode.STRICT:
        raise SandboxUnavailableError(
            f"this machine has no {' and no '.join(missing)}; LOOKAHEAD_SANDBOX=best_effort runs without"
        )
    try:
        _apply(directory, missing, cuda=cuda)
    except OSError as error:
        raise SandboxUnavailableError(f"the sandbox could not be set up: {error}") from error
    return Confinement(mode, missing)


def survey() -> tuple[str, ...]:
    """The layers that this process cannot have."""
    lacks = {
        "landlock": landlock.abi_version() == 0,
        "seccomp": syscalls.load_library() is None,
        "single thread": len(list(Path("/proc/self/task").iterdir())) != 1,
    }
    return tuple(name for name, lacking in lacks.items() if lacking)


def _apply(directory: Path, missing: tuple[str, ...], *, cuda: bool) -> None:
    limits.settle()
    privileges.drop_capabilities()
    privileges.forbid_new()
    if "landlock" not in missing:
        landlock.restrict(policy.paths(directory, cuda=cuda))
    seccomp = syscalls.load_library()
    if seccomp is not None:
        syscalls.restrict(seccomp)
