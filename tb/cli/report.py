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
    """A contact sheet of what the networks see: the long and short views of a few videos."""
    from shards.format.manifest import read_manifest
    from tb.config.load_config import load_config
    from tb.reports.view_sheet import write_view_sheet

    config = load_config(preset, set_ or [])
    write_view_sheet(read_manifest(shards), config, png, num_videos=num_videos)
    typer.echo(png)
