"""`tb demo`: the whole method on made-up videos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tb import api
from tb.cli.choices import DemoSizeOption, DemoWorldOption
from tb.cli.next_command import say_next
from tb.stage_kinds import COMPARED

if TYPE_CHECKING:
    from tb.config.differences import Tree

_CLASS = "clockwise"


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for everything; made if missing.")] = Path(
        "demo"
    ),
    size: Annotated[
        DemoSizeOption,
        typer.Option(help="tiny is a smoke test, small takes minutes on two cores."),
    ] = DemoSizeOption.SMALL,
    seed: Annotated[int, typer.Option(help="Seeds the videos and the training.", min=0)] = 0,
    world: Annotated[
        DemoWorldOption,
        typer.Option(
            help="Four classes differ in object and background, or in background only (places)."
        ),
    ] = DemoWorldOption.OBJECTS,
) -> None:
    """Make videos, shard them, run the whole method and write a report; needs no GPU or data.

    Twelve classes: ring, cross, stripes and checker differ in appearance. left and right, clockwise
    and anticlockwise, grow and shrink, pulse-then-hop and hop-then-pulse show the same disc and
    differ only in motion or in the order of events. Each of the first four classes has its own
    background in most of its videos. With --world places they are bars, shelves, spots and horizon,
    which show the disc too and differ only in the background.

    Run it again after an interruption: it goes on from where it was.
    """
    _tell(out, api.run_demo(out, size=size.value, seed=seed, world=world.value))


def _tell(out: Path, result: "Tree") -> None:
    typer.echo(f"\n{'':<34}top-1")
    rows = [("chance", "chance"), *((kind.full_name, kind.result_name) for kind in COMPARED)]
    for title, name in rows:
        typer.echo(f"{title:<34}{result[f'{name}_top1']:.1%}")
    typer.echo(
        f"\n{result['num_videos']['labelled']} of {result['num_videos']['train']} training videos"
        f" labelled; {result['data_wait_fraction']:.1%} of step time spent waiting for data;"
        f" {result['seconds']:.0f} s"
    )
    typer.echo(f"report  {out / 'report.html'}\nresult  {out / 'result.json'}")
    say_next("predict", out / "work", out / "videos" / "test" / _CLASS)
