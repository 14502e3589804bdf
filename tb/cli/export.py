"""`tb export`: trained weights for stock PyTorchVideo and torchvision."""

import json
from pathlib import Path
from typing import Annotated

import typer

from shards.counted import counted
from tb import api
from tb.cli.next_command import VIDEO, say_next


def export_command(
    run: Annotated[
        Path, typer.Argument(help="A stage's folder, e.g. runs/ucf101/student, or a checkpoint.")
    ],
    out: Annotated[Path, typer.Option(help="The *.safetensors file to write.")],
) -> None:
    """Write a backbone and its classifier so that the stock libraries load them strictly."""
    metadata = api.export(run, out=out)
    num_classes = len(json.loads(metadata["classes"]))
    head = f"classifier of {counted(num_classes, 'class')}" if num_classes else "no classifier"
    typer.echo(f"{out}: {metadata['backbone']} from stage {metadata['stage']}, {head}")
    if "note" in metadata:
        typer.echo(f"note: {metadata['note']}")
    if num_classes:  # or there is nothing to predict with
        say_next("predict", out, VIDEO)
