"""`tb predict`: the classes of video files, without shards."""

import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from shards.errors import InputError, printable
from shards.files.path_kinds import is_folder
from tb import api
from tb.cli.choices import RenderEngineOption
from tb.cli.next_command import say_next
from tb.cli.printing import result_console
from tb.stage_kinds import StageKind

if TYPE_CHECKING:
    from tb.prediction.prediction import Prediction

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600}
# Panels of the help.
_written = partial(typer.Option, rich_help_panel="What is written")
_running = partial(typer.Option, rich_help_panel="How it runs")

ModelFolder = Annotated[
    Path,
    typer.Argument(
        help="A stage's folder, a work folder (its student), a checkpoint, or an export."
    ),
]
Videos = Annotated[
    list[Path], typer.Argument(metavar="VIDEO", help="Video files, and folders of them.")
]
Top = Annotated[int, typer.Option(help="Classes for each answer.", min=1)]
Every = Annotated[
    str | None, typer.Option(help="An answer for each stretch of this length: 2s, 0.5s, 1m.")
]
NumClips = Annotated[
    int | None,
    typer.Option(help="Clips for each answer; default: as in evaluation; with --every 1.", min=1),
]
CsvFile = Annotated[Path | None, _written(help="A table to write, a CSV file.")]
PngFile = Annotated[
    Path | None, _written(help="A picture to write: frames and classes, or a timeline.")
]
Json = Annotated[bool, _written("--json", help="Print JSON instead of a table.")]
Device = Annotated[str, _running(help="A torch device, or auto.")]
ClipEngine = Annotated[RenderEngineOption, _running(help="What decodes and cuts the clips.")]


def predict_command(
    run: ModelFolder,
    videos: Videos,
    top: Top = 5,
    every: Every = None,
    clips: NumClips = None,
    csv: CsvFile = None,
    png: PngFile = None,
    json: Json = False,
    device: Device = "auto",
    engine: ClipEngine = RenderEngineOption.AUTO,
) -> None:
    """Say which classes videos show, with the clips that `tb eval` takes.

    A bad video is named, and the others go on. --every cuts each video into stretches; hours of
    video take no more memory than minutes.
    """
    progress = Console(stderr=True)
    with progress.status("predicting") if progress.is_terminal else _Silence() as status:
        answers = api.predict(
            run,
            videos,
            every_s=None if every is None else seconds(every),
            clips=clips,
            top=top if csv or png else None,
            csv=csv,
            png=png,
            device=device,
            engine=engine.value,
            progress=lambda one: status.update(f"{printable(one.video)} {_clock(one.end_s or 0)}"),
        )
    for bad in answers.bad:
        typer.echo(f"no answer: {printable(bad.reason)}", err=True)
    if json:
        from tb.prediction.prediction import json_of_answers

        typer.echo(json_of_answers(answers, top))
    else:
        _print_table(answers.predictions, top, has_stretches=every is not None)
    if csv is not None:
        typer.echo(f"see {csv}", err=True)
    if png is not None:
        typer.echo(f"see {png}{_left_out(answers.predictions)}", err=True)
    _say_export(run)


def _left_out(predictions: "list[Prediction]") -> str:
    """What the picture lacks: " (the first 40 of 52 videos)"."""
    from tb.reports.prediction_sheet import MAX_VIDEOS, answers_by_video

    num_videos = len(answers_by_video(predictions))
    return f" (the first {MAX_VIDEOS} of {num_videos} videos)" if num_videos > MAX_VIDEOS else ""


def _say_export(run: Path) -> None:
    """Names the export of a checkpoint as the next command. After an export there is none."""
    from tb.weights.export import SUFFIX

    if run.suffix != SUFFIX:
        stage = run / StageKind.STUDENT if is_folder(run / StageKind.STUDENT) else run
        name = stage.resolve().name if is_folder(stage) else stage.stem
        say_next("export", stage, "--out", f"{name}{SUFFIX}")


class _Silence:
    """Stands for the live line where there is no terminal."""

    def __enter__(self) -> "_Silence":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, text: str) -> None:
        """Shows nothing."""


def seconds(text: str) -> Fraction:
    """The seconds in "2", "2s", "0.5s", "1m" or "1h".

    Raises:
        InputError: It is something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?|\.\d+)\s*([smh]?)", text.strip())
    if found is None or Fraction(found[1]) == 0:
        raise InputError(f"every (--every) is {text!r}: give a time above 0, as in 2s, 0.5s or 1m")
    return Fraction(found[1]) * _UNITS_S[found[2]]


def _print_table(predictions: "list[Prediction]", top: int, *, has_stretches: bool) -> None:
    table = Table("video", box=None)
    if has_stretches:
        table.add_column("time", justify="right")
    num_classes = min(top, len(predictions[0].classes))
    for rank in range(1, num_classes + 1):
        table.add_column(f"{rank}.", no_wrap=True)
    for one in predictions:
        time = [_clock(one.begin_s)] if has_stretches else []
        cells = [f"{printable(name)} {share:.0%}" for name, share in one.top(top)]
        table.add_row(printable(one.video), *time, *cells)
    result_console().print(table)


def _clock(time_s: float) -> str:
    """Hours, minutes and seconds: 1:02:05.0."""
    minutes, rest_s = divmod(round(time_s, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest_s:04.1f}"
