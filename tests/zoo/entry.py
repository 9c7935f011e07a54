"""What a zoo entry is: a network of our own, its example inputs, and how its seeded weights are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import final
from zlib import crc32

import torch
from torch import Tensor, nn

from tests.zoo.weights import freshen, randomise


@final
@dataclass(frozen=True)
class Sample:
    """One input without its batch axis: normal floats, or whole numbers below `high`."""

    shape: tuple[int, ...]
    high: int | None = None

    def draw(self, batch: int, generator: torch.Generator) -> Tensor:
        """A tensor of shape (batch, *shape)."""
        size = (batch, *self.shape)
        if self.high is None:
            return torch.randn(size, generator=generator)
        return torch.randint(self.high, size, generator=generator)


Inputs = Mapping[str, Sample]


@final
@dataclass(frozen=True)
class Entry:
    """A network of the zoo. `build(reduced)` makes it; `reduced` keeps the topology at a CI-friendly size.

    `fresh` has the values of a network never trained: many tensors are equal (all ones, all zeros).
    """

    name: str
    build: Callable[[bool], nn.Module]
    small: Inputs
    full: Inputs
    tags: frozenset[str] = field(default_factory=frozenset)
    fresh: bool = False

    def make(self, *, reduced: bool = True) -> nn.Module:
        """The network in eval mode; the same weights at every call."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(crc32(self.name.encode()))
            module = self.build(reduced).eval()
            if self.fresh:
                freshen(module)
            else:
                randomise(module, self.inputs(reduced=reduced, batch=4))
        return module.requires_grad_(False)

    def skeleton(self, *, reduced: bool = False) -> nn.Module:
        """The network without values (meta device): for counting."""
        with torch.device("meta"):
            return self.build(reduced)

    def inputs(self, *, reduced: bool = True, batch: int = 2, seed: int = 0) -> dict[str, Tensor]:
        """Example inputs by the parameter names of `forward`."""
        generator = torch.Generator().manual_seed(seed)
        samples = self.small if reduced else self.full
        return {name: sample.draw(batch, generator) for name, sample in samples.items()}


ZOO: dict[str, Entry] = {}


def image(size: int, channels: int = 3) -> Inputs:
    """One square image input called `image`."""
    return {"image": Sample((channels, size, size))}


def net(
    small: Inputs, full: Inputs | None = None, *, tags: str = "", fresh: bool = False
) -> Callable[[Callable[[bool], nn.Module]], Callable[[bool], nn.Module]]:
    """Decorator: put a builder in the zoo by its name; `fresh` adds `<name>_fresh`, untrained."""

    def enter(build: Callable[[bool], nn.Module]) -> Callable[[bool], nn.Module]:
        words = frozenset(tags.split())
        _add(Entry(build.__name__, build, small, full or small, words))
        if fresh:
            _add(Entry(f"{build.__name__}_fresh", build, small, full or small, words | {"fresh"}, fresh=True))
        return build

    return enter


def case(
    *, tags: str = "", **samples: tuple[int, ...] | Sample
) -> Callable[[type[nn.Module]], type[nn.Module]]:
    """Decorator: put a tiny network without arguments in the zoo under its class name in snake case."""
    inputs = {name: item if isinstance(item, Sample) else Sample(item) for name, item in samples.items()}

    def enter(kind: type[nn.Module]) -> type[nn.Module]:
        words = frozenset(tags.split()) | {"case"}
        _add(Entry(_snake(kind.__name__), lambda reduced: kind(), inputs, inputs, words))
        return kind

    return enter


def _add(entry: Entry) -> None:
    if entry.name in ZOO:
        raise ValueError(f"two networks called {entry.name}")
    ZOO[entry.name] = entry


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
