"""`tb export`: trained weights for stock PyTorchVideo and torchvision."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    run: Annotated[Path, typer.Argument(help="A stage's folder (WORK/STAGE), or a checkpoint.")],
    out: Annotated[Path, typer.Option(help="The *.safetensors file to write.")],
) -> None:
    """Write a backbone and its classifier so that the stock libraries load them strictly."""
    import json

    from tb.weights.pretrained import export_weights

    facts = export_weights(run, out)
    num_classes = len(json.loads(facts["classes"]))
    head = f"classifier of {num_classes} classes" if num_classes else "no classifier"
    typer.echo(f"{out}: {facts['backbone']} from stage {facts['stage']}, {head}")
    if "note" in facts:
        typer.echo(f"note: {facts['note']}")
