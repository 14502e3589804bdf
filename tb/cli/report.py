"""`tb report` and `tb views`: a page and a picture."""

from pathlib import Path
from typing import Annotated

import typer

from tb import api
from tb.cli.next_command import VIDEO, say_first_stage, say_next
from tb.cli.options import Out, Picture, Preset, Set, Shards


def report_command(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Write WORK/report.html and WORK/result.json from the stages' results."""
    typer.echo(api.report(shards=shards, out=out, preset=preset, settings=set_ or []))
    say_next("predict", out, VIDEO)


def views_command(
    out: Picture,
    work: Annotated[
        Path | None, typer.Argument(help="A work folder, for its settings and its data.")
    ] = None,
    shards: Annotated[
        str | None,
        typer.Option(
            metavar="SHARDS",
            help="Finished shards: a folder, or a URL; default: those that WORK remembers.",
        ),
    ] = None,
    preset: Preset = None,
    set_: Set = None,
    num_videos: Annotated[int, typer.Option(help="How many videos.", min=1)] = 3,
) -> None:
    """Draw what the networks see: the long and short views of a few videos.

    Give a work folder, or --shards, or both.
    """
    path = api.views(
        work, shards=shards, out=out, preset=preset, settings=set_ or [], num_videos=num_videos
    )
    typer.echo(path)
    if work is not None:
        say_next("runs", "ls", work)
    elif shards is not None:
        say_first_stage(shards, preset, set_)
