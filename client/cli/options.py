"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from client.cli import screen

Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        envvar="LOOKAHEAD_SERVER",
        metavar="URL",
        help="Address of the service; the key comes from LOOKAHEAD_API_KEY.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", callback=screen.set_json, help="Answer in JSON on standard output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0, metavar="SECONDS", help="Stop waiting after this long (exit 124); the job runs on."),
]
JobIdArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
Preset = Annotated[str | None, typer.Option(help="A named recipe; see `lookahead presets`.")]
Sparsity = Annotated[
    float | None, typer.Option(min=0, max=1, help="Share of the prunable weights to remove, below 1.")
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="A recipe in JSON; options go over it.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Set one thing: criterion.name=magnitude, target.macs=0.5."
    ),
]
Exclude = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Leave these layers alone. May be repeated.")
]
Layers = Annotated[
    list[str] | None, typer.Option("--layer", metavar="NAME=SPARSITY", help="Sparsity of one layer.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of everything random.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="FILE", help="Data: .npz, .safetensors, .parquet, a zip of images."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=SHAPE",
        help="Shape of an input: x=1,3,32,32 or x=1,77:int64; or its value: rate=16000.",
    ),
]
ExternalData = Annotated[
    list[Path] | None,
    typer.Option("--external-data", metavar="FILE", help="An ONNX external data file. May be repeated."),
]
ModelFile = Annotated[Path, typer.Argument(help="The model; or a directory of one .onnx file and its data.")]
ModelOutput = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Where the pruned model goes; by default NAME.pruned.EXT."),
]
ReportFile = Annotated[Path | None, typer.Option(help="Save the report too: .html is the page, else JSON.")]
MinAccuracy = Annotated[
    float | None, typer.Option(min=0, help="Exit 3 when the accuracy after is below this (0 to 1).")
]
MaxAccuracyDrop = Annotated[
    float | None, typer.Option(min=0, help="Exit 3 when accuracy drops by more points (1 = 0.01).")
]
MaxSizeRatio = Annotated[
    float | None, typer.Option(min=0, help="Exit 3 when file size after/before is above this.")
]
MaxCompressedRatio = Annotated[
    float | None, typer.Option(min=0, help="The same for the sizes after zstd compression.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Submit, print the job, do not wait.")]
Local = Annotated[bool, typer.Option("--local", help="Run the engine here, without a server.")]
