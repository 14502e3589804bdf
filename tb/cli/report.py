"""`tb report` and `tb views`: a page and a picture."""

from typing import Annotated

import typer

from tb import api
from tb.cli.options import OnlyPreset, Out, Png, Preset, Set, Shards


def report_command(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Write WORK/report.html and WORK/result.json from what the stages left."""
    typer.echo(api.report(shards=shards, out=out, preset=preset, settings=set_ or []))


def views_command(
    shards: Shards,
    png: Png,
    preset: OnlyPreset = None,
    set_: Set = None,
    num_videos: Annotated[int, typer.Option(help="How many videos.", min=1)] = 3,
) -> None:
    """Draw what the networks see: the long and short views of a few videos."""
    path = api.views(
        shards=shards, png=png, preset=preset, settings=set_ or [], num_videos=num_videos
    )
    typer.echo(path)
