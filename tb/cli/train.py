"""`tb train ...`, `tb eval`, `tb report`, `tb views` and `tb config ...`.

All of them share two folders: --shards, which `tb shard` made, and --out, the work folder. The
work folder remembers its settings (WORK/config.yaml), so --preset and --set are given once.
"""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.errors import InputError

if TYPE_CHECKING:
    from shards.format.manifest import Manifest
    from tb.config.settings import Config
    from tb.evaluation.evaluate import ClassRow

train_app = typer.Typer(no_args_is_help=True, help="Train a stage of the method, or all of them.")
config_app = typer.Typer(no_args_is_help=True, help="Look at settings and presets.")

_NUM_CLASSES_SHOWN = 20

Shards = Annotated[str, typer.Option(help="Finished shards, from `tb shard`: a folder, or a URL.")]
Out = Annotated[Path, typer.Option(help="Work folder: checkpoints, logs, report.")]
Preset = Annotated[
    str | None, typer.Option(help="Preset's name or YAML file; default: WORK's own settings.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, e.g. labels.percent=5; repeatable.")
]
PeekTest = Annotated[
    bool,
    typer.Option(
        "--peek-test",
        help="Read the held-out split before training is over, or again; the record says so.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(help="Folder in WORK for a variant; WORK does not remember its settings."),
]


class Teacher(StrEnum):
    """The two self-supervised teachers."""

    invariant = "invariant"
    distinctive = "distinctive"


@train_app.command()
def invariant(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Stage 1: the temporally invariant teacher, L_I, labels unused."""
    _pretrain("invariant", shards, out, preset, set_)


@train_app.command()
def distinctive(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Stage 1: the temporally distinctive teacher, L_D1 + L_D2, labels unused."""
    _pretrain("distinctive", shards, out, preset, set_)


@train_app.command()
def tclr(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Stage 1 with all three terms: a start for the student (student.init=tclr)."""
    _pretrain("tclr", shards, out, preset, set_)


def _pretrain(
    kind: str, shards: str, out: Path, preset: str | None, overrides: list[str] | None
) -> None:
    manifest, config = open_work(shards, out, preset, overrides)
    from tb.workflow import run as workflow

    workflow.run_stage(kind, manifest, config, out)


@train_app.command()
def finetune(
    shards: Shards,
    out: Out,
    teacher: Annotated[Teacher, typer.Option(help="Which teacher.")],
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from; default: WORK/TEACHER's.")
    ] = None,
    preset: Preset = None,
    set_: Set = None,
) -> None:
    """Stage 2: a teacher on the labelled videos, cross entropy."""
    manifest, config = open_work(shards, out, preset, set_)
    from tb.workflow import run as workflow

    workflow.run_stage(f"finetune-{teacher}", manifest, config, out, init=init)


@train_app.command()
def student(
    shards: Shards, out: Out, name: Name = None, preset: Preset = None, set_: Set = None
) -> None:
    """Stage 3: the student, taught by both teachers weighted per video.

    Variants, with --set: student.teachers=stretched, equal, invariant or distinctive;
    student.distance=kl or js; student.init=scratch, invariant, distinctive, tclr or a file.
    """
    manifest, config = open_work(shards, out, preset, set_)
    from tb.workflow import run as workflow

    workflow.run_stage("student", manifest, config, out, name=name)


@train_app.command()
def baseline(
    kind: Annotated[str, typer.Argument(help="pseudo-label, fixmatch or mean-teacher.")],
    shards: Shards,
    out: Out,
    name: Name = None,
    preset: Preset = None,
    set_: Set = None,
) -> None:
    """Another semi-supervised method: the student's network, labels, batches and steps."""
    manifest, config = open_work(shards, out, preset, set_)
    from tb.method.baselines import NAMES
    from tb.workflow import run as workflow

    if kind not in NAMES:
        raise InputError(f"no baseline {kind!r}: choose one of {', '.join(NAMES)}")
    workflow.run_stage(kind, manifest, config, out, name=name)


@train_app.command()
def supervised(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """The baseline: the student's network and budget on the labelled videos alone."""
    manifest, config = open_work(shards, out, preset, set_)
    from tb.workflow import run as workflow

    workflow.run_stage("supervised", manifest, config, out)


@train_app.command("all")
def train_all(
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    jobs: Annotated[int, typer.Option(help="Stages to run side by side.", min=1)] = 1,
) -> None:
    """Every stage in order, the baseline, their evaluation and the report.

    Run it again after an interruption: finished stages are kept, a started one goes on.
    """
    manifest, config = open_work(shards, out, preset, set_)
    from tb.reports.report import write_report
    from tb.training.distributed import join
    from tb.workflow import run as workflow

    started_s = time.monotonic()
    workflow.run_all(manifest, config, out, jobs=jobs)
    if join().is_main:
        typer.echo(write_report(manifest, config, out, seconds=time.monotonic() - started_s))


def evaluate_command(
    stage: Annotated[str, typer.Argument(help="student, supervised or finetune-TEACHER.")],
    shards: Shards,
    out: Out,
    preset: Preset = None,
    set_: Set = None,
    peek_test: PeekTest = False,
) -> None:
    """Stage 4: video-level top-1 and top-5 on the held-out split (evaluation.split).

    WORK/STAGE gets the predictions, a table of classes and a picture of what was taken for what.
    Held-out videos are for one reading: with other weights or settings it takes --peek-test.
    """
    manifest, config = open_work(shards, out, preset, set_)
    from tb.evaluation.evaluate import class_table, evaluate
    from tb.evaluation.readings import num_readings

    result = evaluate(stage, manifest, config, out, peek=peek_test)
    typer.echo(
        f"{stage}: top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of {result.num_videos}"
        f" videos of split {result.split!r} (chance {1 / len(manifest.classes):.1%})"
    )
    _tell_classes(class_table(result, manifest.classes))
    typer.echo(f"see {out / stage}/classes-{result.split}.csv, confusion-{result.split}.png")
    readings = num_readings(out / stage, result.split)
    if readings > 1:
        typer.echo(
            f"note: split {result.split!r} was looked at {readings} times with this stage; see"
            f" {out / stage}/evaluations.jsonl"
        )


def _tell_classes(rows: list["ClassRow"]) -> None:
    """The classes that have videos, worst first."""
    known = [(row.top1, row) for row in rows if row.top1 is not None]
    known.sort(key=lambda pair: pair[0])
    if len(known) > _NUM_CLASSES_SHOWN:
        typer.echo(f"the {_NUM_CLASSES_SHOWN} worst of {len(known)} classes:")
    for top1, row in known[:_NUM_CLASSES_SHOWN]:
        mistake = f"  {row.num_mistaken} taken for {row.mistaken_for}" if row.num_mistaken else ""
        typer.echo(f"  {row.name:<24} {top1:6.1%} of {row.num_videos:<4}{mistake}")


def report_command(shards: Shards, out: Out, preset: Preset = None, set_: Set = None) -> None:
    """Write WORK/report.html and WORK/result.json from what the stages left."""
    manifest, config = open_work(shards, out, preset, set_)
    from tb.reports.report import write_report

    typer.echo(write_report(manifest, config, out))


def views_command(
    shards: Shards,
    png: Annotated[Path, typer.Option(help="The picture to write.")],
    preset: Annotated[str | None, typer.Option(help="Preset's name or YAML file.")] = None,
    set_: Set = None,
    num_videos: Annotated[int, typer.Option(help="How many videos.", min=1)] = 3,
) -> None:
    """A contact sheet of what the networks see: the long and short views of a few videos."""
    from shards.format.manifest import read_manifest
    from tb.config.settings import load_config
    from tb.reports.view_sheet import write_contact_sheet

    config = load_config(preset, set_ or [])
    write_contact_sheet(read_manifest(shards), config, png, num_videos=num_videos)
    typer.echo(png)


@config_app.command()
def show(
    preset: Annotated[str | None, typer.Argument(help="Preset's name or YAML file.")] = None,
    set_: Set = None,
) -> None:
    """The resolved settings as YAML; without a preset, the paper's."""
    from tb.config.settings import dump_yaml, load_config

    typer.echo(dump_yaml(load_config(preset, set_ or [])), nl=False)


@config_app.command()
def diff(
    one: Annotated[str, typer.Argument(help="A preset's name, a YAML file, or a work folder.")],
    two: Annotated[str, typer.Argument(help="Likewise.")],
) -> None:
    """Where two sets of settings differ: one line each, by tabs."""
    from tb.config.settings import CONFIG, load_config
    from tb.training.settings import differences

    files = [(name, Path(name) / CONFIG) for name in (one, two)]
    sources = [str(file) if file.is_file() else name for name, file in files]
    first, second = (load_config(source).model_dump(mode="json") for source in sources)
    for name, a, b in differences(first, second):
        typer.echo(f"{name}\t{a}\t{b}")


@config_app.command("presets")
def presets() -> None:
    """The presets that come with the package."""
    from tb.config.settings import preset_names

    typer.echo("\n".join(preset_names()))


def open_work(
    shards: str, out: Path, preset: str | None, overrides: list[str] | None
) -> tuple["Manifest", "Config"]:
    """The data set, and the settings of the work folder."""
    from shards.format.manifest import read_manifest
    from tb.config.settings import work_config

    manifest = read_manifest(shards)
    return manifest, work_config(out, preset, overrides or [])
