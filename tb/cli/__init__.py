"""The command line, `tb`: shards, training, evaluation, probes, weights, reports, the demo.

Heavy imports wait inside the commands, so that `tb --help` answers at once. An `InputError` is the
user's to mend: one line and exit code 2, without a traceback.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from shards.errors import InputError
from tb import __version__
from tb.cli.probes import probe_app, retrieve_command
from tb.cli.reproduce import reproduce_command
from tb.cli.runs import runs_app
from tb.cli.shard import shard_app, shards_app
from tb.cli.split import split_command
from tb.cli.train import config_app, evaluate_command, report_command, train_app, views_command
from tb.cli.weights import export_command

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Semi-supervised action recognition: TimeBalance, from a folder of videos to accuracy.",
)
app.add_typer(shard_app, name="shard")
app.add_typer(shards_app, name="shards")
app.command("split")(split_command)
app.add_typer(train_app, name="train")
app.command("eval")(evaluate_command)
app.add_typer(probe_app, name="probe")
app.command("retrieve")(retrieve_command)
app.command("export")(export_command)
app.command("report")(report_command)
app.command("reproduce")(reproduce_command)
app.command("views")(views_command)
app.add_typer(runs_app, name="runs")
app.add_typer(config_app, name="config")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything; made if missing.")] = Path(
        "demo"
    ),
    size: Annotated[
        str, typer.Option(help="tiny (a smoke test), small (minutes on two cores) or medium.")
    ] = "small",
    seed: Annotated[int, typer.Option(help="Seeds the videos and the training.", min=0)] = 0,
) -> None:
    """Make videos, shard them, run the whole method and write a report; needs no GPU or data.

    Twelve classes: ring, cross, stripes and checker differ in appearance; left and right,
    clockwise and anticlockwise, grow and shrink, pulse-then-hop and hop-then-pulse show the same
    disc and differ in motion or in the order of events alone.

    Run it again after an interruption: it goes on from where it was.
    """
    from tb.demo.demo import run_demo

    run_demo(out, size=size, seed=seed)


def main() -> None:
    """Entry point of `tb`."""
    # Read when torch loads. Spinning threads that share their cores with the loader's, or with
    # another program's, make a step many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
