"""`tb shard SOURCE ...`: raw videos become shards.

What each command needs is imported inside it, because `tb --help` must not wait for PyAV and Arrow.
Results go to standard output, progress and errors to standard error.
"""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shards.counted import counted
from shards.encode.recipe import DEFAULT_CODEC, DEFAULT_GOP, DEFAULT_SHORT_SIDE_PX
from shards.errors import printable
from shards.ingestion.default_limits import DEFAULT_SHARD_MB, DEFAULT_TIME_LIMIT_S
from tb import api
from tb.cli.choices import RecipeOption
from tb.cli.group import Command, Group
from tb.cli.next_command import say_next
from tb.cli.printing import few, progress_bar, size_text, split_texts
from tb.cli.sources import Given, ShardsSeed, commands_over_sources

if TYPE_CHECKING:
    from shards.ingestion.ingest_report import IngestReport
    from shards.sources.source import Dataset

shard_app = Group(help="Turn raw videos into verified, train-ready shards.")

_NUM_REASONS_SHOWN = 5
_DEFAULT_RECIPE = RecipeOption(DEFAULT_CODEC)

# Panels of the help.
_stored = partial(typer.Option, rich_help_panel="How videos are stored")
_running = partial(typer.Option, rich_help_panel="How it runs")
ShardsOut = Annotated[
    str, typer.Option(help="Folder for the shards, created if missing; or a URL such as s3://...")
]
StoredCodec = Annotated[RecipeOption, _stored("--recipe", help="copy keeps files as they are.")]
Quality = Annotated[
    int | None, _stored(help="CRF (mjpeg: quantiser), lower is better. Default: the recipe's own.")
]
Gop = Annotated[
    int | None, _stored(help=f"Frames from one keyframe to the next. Default: {DEFAULT_GOP}.")
]
ShortSide = Annotated[
    int | None,
    _stored(
        help="Upper bound of the shorter side, pixels, a multiple of 16."
        f" Default: {DEFAULT_SHORT_SIDE_PX}."
    ),
]
MaxSeconds = Annotated[float | None, _stored(help="Cut longer videos (not with copy).")]
Fps = Annotated[
    int | None,
    _stored(
        help="Frames per second of every stored video (not with copy)."
        " Default: the rate of each source, up to 60."
    ),
]
ShardMb = Annotated[int, _stored(help="Size of a shard, MiB.", min=1)]
Workers = Annotated[
    int | None, _running(help="Processes that encode. Default: one per CPU.", min=1)
]
Ray = Annotated[
    str | None,
    _running(metavar="[ADDRESS]", help="Encode on a Ray cluster; by default the one running here."),
]
TimeLimit = Annotated[
    float, _running(help="Seconds after which a video is skipped, because some decoders hang.")
]
Append = Annotated[
    bool,
    typer.Option(
        "--append",
        help="Add the videos that the finished set in --out does not have. Old ones stay as they"
        " are.",
    ),
]
Strict = Annotated[bool, _running("--strict", help="Stop at the first bad video.")]


class _SourceCommand(Command):
    """Allows `--ray` without an address, which Typer alone does not offer."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        full = list(args)
        if "--ray" in full:
            after = full.index("--ray") + 1
            if after == len(full) or full[after].startswith("--"):
                full.insert(after, "auto")
        return super().parse_args(ctx, full)


def _ingest(
    given: Given,
    out: ShardsOut,
    codec: StoredCodec = _DEFAULT_RECIPE,
    quality: Quality = None,
    gop: Gop = None,
    short_side: ShortSide = None,
    max_seconds: MaxSeconds = None,
    fps: Fps = None,
    shard_mb: ShardMb = DEFAULT_SHARD_MB,
    seed: ShardsSeed = 0,
    workers: Workers = None,
    ray: Ray = None,
    time_limit: TimeLimit = DEFAULT_TIME_LIMIT_S,
    strict: Strict = False,
    append: Append = False,
) -> None:
    """Each video is encoded, checked and stored in --out. A bad one is left out and listed.

    Run it again after an interruption: it goes on from where it was.
    """
    with progress_bar("shard") as progress:
        report = api.shard(
            given.dataset,
            out=out,
            recipe=codec.value,
            quality=quality,
            gop=gop,
            short_side=short_side,
            max_seconds=max_seconds,
            fps=fps,
            shard_mb=shard_mb,
            seed=seed,
            workers=workers,
            ray=ray,
            time_limit=time_limit,
            strict=strict,
            append=append,
            progress=progress,
        )
    _print_summary(given.dataset, out, report)


commands_over_sources(shard_app, _ingest, cls=_SourceCommand)


def _print_summary(dataset: "Dataset", out: str, report: "IngestReport") -> None:
    from shards.summary import summarize

    if report.earlier:
        typer.echo(
            f"added {counted(report.num_added, 'video')}; the state before:"
            f" {out}@{report.earlier[:16]}"
        )
    if report.already_done:
        typer.echo(f"{out}: already done by an earlier run")
    elif report.num_resumed:
        typer.echo(f"went on after {counted(report.num_resumed, 'video')} of an earlier run")
    summary = summarize(out)  # after --append, the source may have fewer classes than the set
    typer.echo(
        f"{counted(report.num_videos, 'video')}, {counted(len(summary.classes), 'class')},"
        f" {counted(report.num_shards, 'shard')}, {size_text(report.num_bytes)}"
    )
    if empty := summary.empty_classes:
        typer.echo(
            f"warning: {counted(len(empty), 'class')} without a video: {printable(few(empty))}"
        )
    if num := summary.num_unindexed:
        typer.echo(f"{counted(num, 'video')} without a packet index: the loader reads whole files")
    for number, text in split_texts(summary):
        typer.echo(f"split {number}: {text}")
    for note in dataset.notes:
        typer.echo(note)
    if report.num_skipped or report.num_missing:
        _print_skipped(out, report)
    typer.echo(f"digest  {report.digest}")
    typer.echo(f"shards  {out}")
    say_next("data", "verify", out)


def _print_skipped(out: str, report: "IngestReport") -> None:
    from shards.files.store import open_store
    from shards.format.skipped_jsonl import SKIPPED_NAME, read_skipped

    counts = {"skipped": report.num_skipped, "missing": report.num_missing}
    text = ", ".join(f"{counted(num, 'video')} {what}" for what, num in counts.items() if num)
    typer.echo(f"{text}, all listed in {out}/{SKIPPED_NAME}:")
    entries = read_skipped(open_store(out))
    for entry in entries[:_NUM_REASONS_SHOWN]:
        typer.echo(printable(f"  {entry.source}: {entry.reason}"))
    if len(entries) > _NUM_REASONS_SHOWN:
        typer.echo(f"  ... and {len(entries) - _NUM_REASONS_SHOWN} more")
    if num_passing := sum(entry.may_pass for entry in entries):
        typer.echo(
            f"{num_passing} of them for reasons that may have passed (time limit, permissions,"
            " disk): to try them again, add --append, or choose another --out"
        )
