"""Shows targets, views, runs and settings."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import InputError
from shards.files.path_kinds import is_file
from tb.api.settings import resolve
from tb.api.work_folder import inspect_teachers

if TYPE_CHECKING:
    from tb.config.sections import Config
    from tb.diagnosis import MachineFact
    from tb.method.teacher_inspection import TeacherInspection
    from tb.reports.runs import Run, RunComparison
    from tb.stage_kinds import StageKind


def inspect_all_teachers(
    works: Sequence[Path | str],
    *,
    page: Path | str | None = None,
    shards: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    with_hidden_labels: bool = False,
) -> dict[Path, "TeacherInspection"]:
    """`tb inspect teachers` of several work folders, most often one for each seed.

    Args:
        works: The work folders, one or more.
        page: A Markdown file to write, with the means over the folders.
        shards: The data set of all of them.
        preset: Settings of all of them.
        settings: Settings that override the preset's.
        with_hidden_labels: See `inspect_teachers`.

    Returns:
        Work folder -> what was found there.
    """
    from tb.named_paths import check_named_file, write_named_file
    from tb.tables.target_page import target_page

    if page is not None:
        check_named_file(Path(page), "page")
    found = {
        Path(work): inspect_teachers(
            shards=shards,
            out=work,
            preset=preset,
            settings=settings,
            with_hidden_labels=with_hidden_labels,
        )
        for work in works
    }
    if page is not None:
        words = ["tb", "inspect", "teachers", *map(str, works), "--shards", str(shards)]
        words += ["--preset", str(preset)] if preset is not None else []
        words += [word for setting in settings for word in ("--set", setting)]
        words += ["--with-hidden-labels"] if with_hidden_labels else []
        words += ["--page", str(page)]
        write_named_file(Path(page), target_page(found, shlex.join(words)).encode(), "page")
    return found


def views(
    work: Path | str | None = None,
    *,
    out: Path | str,
    shards: Path | str | None = None,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    num_videos: int = 3,
) -> Path:
    """`tb views`: writes a picture of what the networks see, and returns its path.

    Args:
        work: A work folder, for its settings and its data.
        out: The picture to write.
        shards: The data set. None: that of `work`.
        preset: Settings. None: those of `work`, or else the paper's.
        settings: Settings that override the preset's.
        num_videos: How many videos, 1 or more.
    """
    from shards.format.manifest import read_manifest
    from tb.config.load_config import CONFIG, work_config
    from tb.config.work_data import remembered_data
    from tb.reports.view_sheet import write_view_sheet

    if work is not None:
        folder = Path(work)
        if not is_file(folder / CONFIG):
            raise InputError(f"{work}: has no {CONFIG}; give a folder in which a stage was trained")
        manifest = remembered_data(folder) if shards is None else read_manifest(shards)
        config = work_config(folder, None if preset is None else str(preset), settings)
    elif shards is not None:
        manifest, config = read_manifest(shards), resolve(preset, settings)
    else:
        raise InputError("views: give a work folder, or name the shards (--shards)")
    write_view_sheet(manifest, config, Path(out), num_videos=num_videos)
    return Path(out)


def draw_frames(
    shards: Path | str, key: str, out: Path | str, *, num_frames: int | None = None
) -> Path:
    """`tb data show --png`: frames of one stored video, evenly spaced over its length.

    Args:
        shards: The data set.
        key: The video's key.
        out: The picture to write.
        num_frames: How many frames to draw; default 16, or all if there are fewer.

    Raises:
        InputError: There is no such video, or the picture cannot be written.
    """
    from shards.format.manifest import read_manifest
    from tb.reports.frame_sheet import write_frame_sheet

    manifest = read_manifest(shards)
    if num_frames is not None and num_frames < 1:
        raise InputError(f"num_frames is {num_frames}: give 1 or more")
    write_frame_sheet(Path(out), manifest, manifest.row_of(key), num_frames or 16)
    return Path(out)


def next_stage(work: Path | str) -> "StageKind | None":
    """The stage of WORK to train next on the way to the student; None if the student is trained."""
    from tb.config.load_config import work_config
    from tb.workflow import needed_stages

    return needed_stages.next_stage(work_config(Path(work), None, ()), Path(work))


def doctor(folder: Path | str = ".") -> "list[MachineFact]":
    """`tb doctor`: what this machine has, what is used and why, and what is missing.

    Args:
        folder: A folder on the disk of the shards. The speed of this disk is measured.
    """
    from tb.diagnosis import diagnose

    return diagnose(Path(folder))


def find_runs(*folders: Path | str) -> "list[Run]":
    """`tb runs ls`: all runs in and below some folders, by path."""
    from tb.reports import runs

    return runs.find_runs([Path(folder) for folder in folders])


def read_run(folder: Path | str) -> "Run":
    """`tb runs show`: one run, WORK/STAGE."""
    from tb.reports import runs

    return runs.read_run(Path(folder))


def compare_runs(one: Path | str, two: Path | str) -> "RunComparison":
    """`tb runs compare`: where the settings of two runs differ, and their last metrics."""
    from tb.reports import runs

    return runs.compare_runs(read_run(one), read_run(two))


def plot_runs(*folders: Path | str, out: Path | str, metric: str = "loss") -> Path:
    """`tb runs plot`: writes a picture of one metric of some runs, and returns its path."""
    from tb.reports import runs

    runs.plot_runs([read_run(folder) for folder in folders], Path(out), metric)
    return Path(out)


def show_settings(preset: Path | str | None = None, settings: Sequence[str] = ()) -> str:
    """`tb config show`: the resolved settings as YAML.

    Args:
        preset: A preset's name, a YAML file, or a work folder. None: the paper's settings.
        settings: Settings that override them.
    """
    from tb.config.load_config import dump_yaml

    return dump_yaml(_resolve_any(preset, settings))


def compare_settings(one: Path | str, two: Path | str) -> list[tuple[str, object, object]]:
    """`tb config diff`: the settings that differ, as (name, value in one, value in two).

    Args:
        one: A preset's name, a YAML file, or a work folder.
        two: The same.
    """
    from tb.config.differences import differences

    first, second = (_resolve_any(name).model_dump(mode="json") for name in (one, two))
    return differences(first, second)


def _resolve_any(preset: Path | str | None, settings: Sequence[str] = ()) -> "Config":
    """Does what `resolve` does, but `preset` may also be a work folder."""
    from tb.config.load_config import CONFIG

    file = Path(preset or ".") / CONFIG
    return resolve(file if preset is not None and is_file(file) else preset, settings)


def preset_names() -> list[str]:
    """`tb config presets`: the presets that come with the package."""
    from tb.config import load_config

    return load_config.preset_names()
