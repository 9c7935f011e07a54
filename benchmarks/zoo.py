"""Half of the channels of full-size networks: what is kept, and latency in ONNX Runtime, one thread, batch 1.

The networks are those of `tests/zoo` with random weights: what structure allows, not what accuracy is left.
Run `python -m benchmarks.zoo [--only NAME …] [--round-to N]`.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import Report
from tests.zoo import export
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune

DEFAULT = (
    "resnet50",
    "mobilenet_v2",
    "efficientnet_b0",
    "vit_b_16",
    "convnext_tiny",
    "swin_t",
    "shufflenet_v2_x1_0",
)


def halved(name: str, round_to: int) -> Report:
    """Prune one network; the job itself proves that the smaller file equals the masked one."""
    asked = {
        "preset": "lookahead_channels",
        "granularity": {"name": "channel", "round_to": round_to},
        "target": {"sparsity": 0.5},
    }
    recipe = resolve(RecipeRequest.model_validate(asked), catalogue().preset_axes())
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        output.mkdir()
        source = Source(export(name, reduced=False), f"{name}.onnx")
        return prune(source, recipe, output, Context(Path(folder), threads=1))[1]


def main(arguments: list[str] | None = None) -> int:
    """Print one Markdown row per network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=DEFAULT)
    parser.add_argument("--round-to", type=int, default=1)
    options = parser.parse_args(arguments)
    sys.stdout.write(
        "| network | parameters kept | MACs kept | latency ms | faster |\n|---|---|---|---|---|\n"
    )
    for name in options.only:
        summary, latency = (report := halved(name, options.round_to)).summary, report.latency
        kept = (summary.parameters_after or 0) / (summary.parameters_before or 1)
        macs = (summary.macs_after or 0) / (summary.macs_before or 1)
        times = f"{latency.before.median_ms:.1f} → {latency.after.median_ms:.1f}" if latency else "–"
        faster = f"{latency.speedup:.1f}×" if latency else "–"
        sys.stdout.write(f"| {name} | {kept:.2f} | {macs:.2f} | {times} | {faster} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
