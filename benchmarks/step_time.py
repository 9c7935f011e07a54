"""A step of fine-tuning an ONNX file, beside the same network in native PyTorch.

One step is forward, cross-entropy, backward and AdamW, batch norm in training mode. The two networks hold the
same weights and get the same batches; they take turns, each first in every other round. The first rounds are
thrown away, medians of the others are shown. With CUDA when a device is there. On a machine that others use,
the time of the processor says more than that of the clock; both are shown.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from benchmarks.output import markdown, note, parser, save, say
from tests.zoo.entry import ZOO
from tests.zoo.exporting import Exporter, export
from worker.engine import formats
from worker.engine.formats.base import LoadOptions

NETWORKS = ("resnet18", "vit_small", "vit_b_16")
#: Rounds that warm up.
_COLD = 2


@final
@dataclass(frozen=True)
class Trained:
    """A network that is trained, and how its output is taken."""

    module: nn.Module
    optimiser: torch.optim.Optimizer

    def step(self, inputs: list[Tensor], labels: Tensor) -> float:
        """One step; the loss before it."""
        self.optimiser.zero_grad(set_to_none=True)
        made = self.module(*inputs)
        loss = nn.functional.cross_entropy(made if isinstance(made, Tensor) else made[0], labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())


def trained(module: nn.Module, rate: float = 1e-4) -> Trained:
    """The module with AdamW, in torch's default implementation, over everything that trains."""
    return Trained(module, torch.optim.AdamW(module.parameters(), lr=rate))


def pair(name: str, exporter: Exporter, device: str, *, reduced: bool) -> dict[str, Trained]:
    """The network in native PyTorch and as the module of its ONNX file."""
    native = ZOO[name].make(reduced=reduced).requires_grad_(True).train().to(device)
    with tempfile.TemporaryDirectory() as folder:
        opset = 18 if exporter == "dynamo" else 17
        path = export(
            name,
            Path(folder) / "network.onnx",
            exporter=exporter,
            opset=opset,
            dynamic_batch=True,
            reduced=reduced,
            fold=exporter == "dynamo" and not _has_batch_norm(native),
        )
        trainable = formats.load(path, LoadOptions()).trainable(device)
    trainable.batch_norm(training=True)
    return {"native": trained(native), "onnx": trained(trainable.module)}


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, nn.BatchNorm2d) for part in module.modules())


def batch(name: str, size: int, device: str, *, reduced: bool) -> tuple[list[Tensor], Tensor]:
    """Inputs and labels, the same at every call."""
    inputs = [one.to(device) for one in ZOO[name].inputs(reduced=reduced, batch=size).values()]
    return inputs, torch.arange(size, device=device) % 2


@final
@dataclass(frozen=True)
class Seconds:
    """What a step took by the clock and of the processor's time, all threads together."""

    clock: float
    processor: float


def timed(contenders: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[Seconds]]:
    """What every round but the cold ones took; who goes first changes from round to round."""
    seconds: dict[str, list[Seconds]] = {name: [] for name in contenders}
    for number in range(rounds + _COLD):
        order = list(contenders) if number % 2 else list(reversed(contenders))
        for name in order:
            _wait(device)
            start, used = time.perf_counter(), time.process_time()
            contenders[name]()
            _wait(device)
            if number >= _COLD:
                took = Seconds(time.perf_counter() - start, time.process_time() - used)
                seconds[name].append(took)
    return seconds


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


def measure(name: str, options: argparse.Namespace, device: str) -> dict[str, Any]:
    """Medians in milliseconds, their ratio, and how far apart the losses of the two were."""
    contenders = pair(name, options.exporter, device, reduced=options.reduced)
    inputs, labels = batch(name, options.batch, device, reduced=options.reduced)
    losses: dict[str, list[float]] = {key: [] for key in contenders}

    def stepping(key: str) -> Callable[[], None]:
        return lambda: losses[key].append(contenders[key].step(inputs, labels))

    seconds = timed({key: stepping(key) for key in contenders}, options.rounds, device)
    clock = {key: statistics.median(one.clock for one in values) for key, values in seconds.items()}
    used = {key: statistics.median(one.processor for one in values) for key, values in seconds.items()}
    return {
        "network": name,
        "weights": sum(parameter.numel() for parameter in contenders["native"].module.parameters()),
        "native ms": round(1e3 * clock["native"], 1),
        "onnx ms": round(1e3 * clock["onnx"], 1),
        "ratio by the clock": round(clock["onnx"] / clock["native"], 3),
        "ratio of processor time": round(used["onnx"] / used["native"], 3),
        "first loss apart": f"{abs(losses['onnx'][0] - losses['native'][0]):.1e}",
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    options = _options(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(options.threads)
    results = []
    for name in options.networks:
        note(f"{name} on {device}, batches of {options.batch}, {options.rounds} rounds")
        results.append(measure(name, options, device))
    say(markdown(list(results[0]), [list(result.values()) for result in results]))
    save(
        options.json, {"device": device, "batch": options.batch, "rounds": options.rounds, "results": results}
    )
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS[:2])
    made.add_argument("--batch", type=int, default=8)
    made.add_argument("--rounds", type=int, default=15)
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--exporter", choices=["torchscript", "dynamo"], default="torchscript")
    made.add_argument("--reduced", action="store_true", help="the small versions of the networks")
    return made.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
