"""`tb data advise SOURCE ...`: which storage suits the videos and the views of a stage.

The sources are those of `tb shard`.
"""

from functools import partial
from math import isinf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.counted import counted
from shards.errors import InputError, printable
from tb import api
from tb.cli.choices import ViewsOption
from tb.cli.group import Group
from tb.cli.next_command import say_next
from tb.cli.printing import progress_bar
from tb.cli.sources import Given, commands_over_sources

if TYPE_CHECKING:
    from tb.advice.advice import Advice
    from tb.advice.measure import Measured

advise_app = Group(
    help="Try recipes of `tb shard` on some of the videos, and name the one to take.",
)

# Panels of the help.
_wanted = partial(typer.Option, rich_help_panel="What is wanted")
_running = partial(typer.Option, rich_help_panel="How it runs")


def _advise(
    given: Given,
    out: Annotated[Path, typer.Option(help="Folder for advice.json and advice.png.")] = Path(
        "advice"
    ),
    views: Annotated[ViewsOption, _wanted(help="What is cut from a video.")] = ViewsOption.STUDENT,
    size: Annotated[
        int | None, _wanted(help="Height and width of a view, pixels. Default: the views' own.")
    ] = None,
    max_gb: Annotated[
        float | None,
        _wanted(help="Space for all shards, GB. Default: twice what the smallest needs."),
    ] = None,
    min_psnr: Annotated[
        float, _wanted(help="Least PSNR of the views against those of the source, dB.")
    ] = 35.0,
    videos: Annotated[int, _running(help="How many videos to try.", min=1)] = 24,
    minutes: Annotated[
        float, _running(help="About how long it may take; unlikely recipes are left out.")
    ] = 2.0,
    workers: Annotated[
        int | None, _running(help="Processes and threads. Default: one per CPU.", min=1)
    ] = None,
) -> None:
    """Some of the videos are stored by several recipes, and their views are made and timed.

    The fastest recipe that is good and small enough is the choice. Only the measurements are kept.
    """
    with progress_bar("advise") as progress:
        advice = api.advise(
            given.dataset,
            out=out,
            views=views.value,
            size=size,
            max_gb=max_gb,
            min_psnr=min_psnr,
            videos=videos,
            minutes=minutes,
            workers=workers,
            progress=progress,
        )
    _print(advice, given, out)


commands_over_sources(advise_app, _advise)


def _print(advice: "Advice", given: Given, out: Path) -> None:
    """Prints the measurements, then the choice; raises InputError if there is none."""
    found, refusal = advice.found, None
    try:
        chosen = advice.choice
    except InputError as error:
        chosen, refusal = None, error
    typer.echo(
        f"{found.num_videos} of {counted(advice.num_videos, 'video')} tried,"
        f" views {advice.views} at {advice.size_px} px;"
        f" the files of all videos: {_size_text(advice.source_bytes)}\n"
    )
    typer.echo(
        f"{'recipe':<7}{'GOP':>4}{'short side':>12}{'kB/video':>10}{'whole set':>11}"
        f"{'videos/s':>10}{'CPU ms/video':>14}{'PSNR dB':>9}"
    )
    for one in found.measured:
        typer.echo(_line(one) + (" <- choice" if one is chosen else ""))
    typer.echo()
    for entry in found.skipped:
        typer.echo(printable(f"cannot be used: {entry.source}: {entry.reason}"))
    for reason in dict.fromkeys(found.left_out.values()):
        names = [name for name, why in found.left_out.items() if why == reason]
        typer.echo(printable(f"not tried: {', '.join(names)}: {reason}"))
    typer.echo(f"advice   {out / 'advice.json'}\npicture  {out / 'advice.png'}")
    if refusal is not None:
        raise refusal
    assert chosen is not None
    typer.echo(f"choice   {chosen.name}: {_why(advice)}")
    say_next("shard", *given.words, *chosen.options, "--out", out / "shards")


def _line(one: "Measured") -> str:
    recipe = one.recipe
    gop = "-" if recipe.gop is None else recipe.gop
    side = "-" if recipe.short_side_px is None else f"≤ {recipe.short_side_px}"
    psnr = "-" if isinf(one.psnr_db) else f"{one.psnr_db:.1f}"
    return (
        f"{recipe.codec:<7}{gop:>4}{side:>12}{one.bytes_per_video / 1000:>10.0f}"
        f"{_size_text(one.set_bytes):>11}{one.videos_per_s:>10.1f}{one.cpu_ms:>14.2f}{psnr:>9}"
    )


def _why(advice: "Advice") -> str:
    """The rule that led to the choice."""
    limits = advice.limits
    twice = "" if limits.max_gb is not None else ", twice what the smallest such one takes"
    space = _size_text(advice.space_bytes)
    return f"the fastest with at least {limits.min_psnr_db:g} dB and at most {space}{twice}"


def _size_text(num_bytes: float) -> str:
    """Decimal units, as in --max-gb."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"
