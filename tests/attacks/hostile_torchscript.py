"""TorchScript files that do something when they are loaded. Built here, never opened outside a child."""

import io
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor


class _State(torch.nn.Module):
    """A module whose `__setstate__` is code of the file; the loader runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.ones(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight, self.training


class Reader(_State):
    """Reads the password file while it is loaded."""

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        stolen = torch.from_file("/etc/passwd", False, 16, dtype=torch.uint8)
        self.weight = state[0] + stolen.sum()
        self.training = state[1]


class Writer(_State):
    """Writes the file PLACE while it is loaded; the name has as many characters as a place is given."""

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        torch.save(state[0], "/tmp/PLACE_OF_THE_ESCAPED_FILE")
        self.weight = state[0]
        self.training = state[1]


class Endless(_State):
    """Never finishes loading."""

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        count = 0
        while state[1] or count >= 0:
            count = (count + 1) % 1000
        self.weight = state[0]
        self.training = state[1]


class Giant(torch.nn.Module):
    """Holds a tensor of 4 TiB in a file of some kilobytes: every stride is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1).expand(2**20, 2**20), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[:4] + 1


def saved(module: torch.nn.Module) -> bytes:
    """The module as a file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it is; uploads use it
        torch.jit.save(torch.jit.script(module), buffer)
    return buffer.getvalue()


def writer(place: Path) -> bytes:
    """A `Writer` that writes to `place`."""
    return _patched(saved(Writer()), b"/tmp/PLACE_OF_THE_ESCAPED_FILE", str(place).encode())


def deflated(content: bytes) -> bytes:
    """The same archive with its members compressed."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    return packed.getvalue()


def bomb() -> bytes:
    """64 MiB of zeros in some kilobytes."""
    linear = torch.nn.Linear(4096, 4096, bias=False)
    torch.nn.init.zeros_(linear.weight)
    return deflated(saved(linear))


def _patched(content: bytes, old: bytes, new: bytes) -> bytes:
    """The archive with a string of its code replaced."""
    patched = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(patched, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(old, new))
    return patched.getvalue()
