"""A data set and a work folder: advice, sharding, training, measuring, exporting."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.ingestion.default_limits import DEFAULT_SHARD_MB, DEFAULT_TIME_LIMIT_S
from tb.api.settings import open_work
from tb.evaluation.probe_defaults import DEFAULT_K, DEFAULT_L2, DEFAULT_TEMPERATURE
from tb.named_paths import disk_errors_named

if TYPE_CHECKING:
    from loaders.plan.views import ViewSpec
    from shards.ingestion.ingest_report import IngestReport
    from shards.sources.source import Dataset
    from tb.advice.advice import Advice
    from tb.evaluation.accuracy import Evaluation
    from tb.evaluation.probes import Retrieval
    from tb.method.augmentation import Augmentation
    from tb.method.own_loss import OwnLoss
    from tb.method.teacher_inspection import TeacherInspection
    from tb.networks.backbones import Backbone

ALL = "all"
"""For `train`: every stage in order."""


def shard(
    source: "Dataset | Path | str",
    *,
    out: Path | str,
    recipe: str | None = None,
    quality: int | None = None,
    gop: int | None = None,
    short_side: int | None = None,
    max_seconds: float | None = None,
    fps: int | None = None,
    shard_mb: int = DEFAULT_SHARD_MB,
    seed: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    time_limit: float = DEFAULT_TIME_LIMIT_S,
    strict: bool = False,
    append: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> "IngestReport":
    """`tb shard`: turns raw videos into finished shards, or goes on after an interruption.

    Args:
        source: A folder of class folders, or what a function of `shards.sources` returned.
        out: The folder for the shards, made if missing, or a URL.
        recipe: "h264" (the default), "hevc", "vp9", "mjpeg" or "copy".
        quality: CRF (mjpeg: quantiser); lower is better. None: the default of the recipe.
        gop: Frames from one keyframe to the next. None: the default of the recipe.
        short_side: Upper bound of the shorter side, px. None: the default of the recipe.
        max_seconds: Longer videos are cut to this length. None: no limit.
        fps: Frames per second of every stored video. None: the rate of each source, up to 60.
        shard_mb: Size of a shard, MiB.
        seed: Seeds the order in the shards.
        workers: Processes that encode. None: one for each CPU.
        ray: Address of a Ray cluster that encodes.
        time_limit: Seconds after which a video is skipped.
        strict: Stop at the first bad video.
        append: Add the videos that a finished set in `out` does not have.
        progress: Called with (videos done, videos in all, key).
    """
    from shards.encode.recipe import DEFAULT_CODEC, Recipe
    from shards.ingestion.ingest import ingest
    from shards.sources.folder import from_folder

    return ingest(
        from_folder(source) if isinstance(source, Path | str) else source,
        out,
        recipe=Recipe(
            codec=recipe or DEFAULT_CODEC,
            quality=quality,
            gop=gop,
            short_side_px=short_side,
            max_seconds=max_seconds,
            fps=fps,
        ),
        seed=seed,
        shard_bytes=shard_mb << 20,
        workers=workers,
        ray_address=ray,
        time_limit_s=time_limit,
        strict=strict,
        append=append,
        progress=progress,
    )


def advise(
    source: "Dataset | Path | str",
    *,
    out: Path | str,
    views: "ViewSpec | str" = "student",
    size: int | None = None,
    max_gb: float | None = None,
    min_psnr: float = 35.0,
    videos: int = 24,
    minutes: float = 2.0,
    workers: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> "Advice":
    """`tb data advise`: tries recipes of `shard` on some videos; its `choice` is the one to take.

    Args:
        source: A folder of class folders, or what a function of `shards.sources` returned.
        out: The folder for advice.json and advice.png, made if missing.
        views: What is cut from a video: a name that `open_loader` takes, or a ViewSpec.
        size: Height and width of a view, px. None: the size that the views have.
        max_gb: The space for all shards, GB. None: twice what the smallest recipe needs.
        min_psnr: The least PSNR of the views against those of the source, dB.
        videos: How many videos are tried.
        minutes: About how long it may take; the least likely recipes are left out.
        workers: Processes that encode, and threads that make views. None: one for each CPU.
        progress: Called with (percent done, 100, what is being done).
    """
    from shards.sources.folder import from_folder
    from tb.advice.advice import Limits
    from tb.advice.advise import advise as advise_on

    limits = Limits(max_gb=max_gb, min_psnr_db=min_psnr)
    return advise_on(
        from_folder(Path(source)) if isinstance(source, Path | str) else source,
        Path(out),
        views,
        size_px=size,
        num_videos=videos,
        limits=limits,
        minutes=minutes,
        workers=workers,
        progress=progress or (lambda *_: None),
    )


@disk_errors_named
def train(
    stage: "str | type[OwnLoss]",
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    backbone: "Callable[[], Backbone] | None" = None,
    augmentation: "Augmentation | None" = None,
    init: Path | str | None = None,
    name: str | None = None,
    jobs: int = 1,
) -> Path:
    """`tb train`: trains a stage, or all of them, from their last checkpoints if there are any.

    Args:
        stage: A stage (see `tb.stage_kinds.StageKind`), e.g. "invariant", "finetune-invariant" or
            "student"; or "all": every stage, the evaluation of the classifiers and the report; or
            a registered method, or its qualified name.
        shards: The data set.
        out: The work folder.
        preset: Settings.
        settings: Settings that override the preset's.
        backbone: A registered function; it sets the setting `backbone`.
        augmentation: A registered function; it sets the setting `augmentation`.
        init: For fine-tuning: the file to start from.
        name: For a student, a baseline or a registered method: its folder in `out`.
        jobs: For "all": stages side by side. With more than one, the calling script needs an
            `if __name__ == "__main__"` guard.

    Returns:
        The final checkpoint; for "all" the report.
    """
    from tb.training.distributed import join
    from tb.workflow.run import run_all, run_stage

    stage, settings = _named(stage, settings, backbone, augmentation)
    manifest, config, work = open_work(shards, out, preset, settings)
    if stage != ALL:
        if jobs != 1:
            raise InputError(
                f"jobs (--jobs) is {jobs}, but only 'all' has stages to run side by side"
            )
        return run_stage(
            stage, manifest, config, work, init=None if init is None else Path(init), name=name
        )
    if init is not None or name is not None:
        raise InputError("init and name are for a single stage; leave them out for 'all'")
    from tb.reports.report import REPORT, write_report

    started_s = time.monotonic()
    run_all(manifest, config, work, jobs=jobs)
    if join().is_main:
        return write_report(manifest, config, work, seconds=time.monotonic() - started_s)
    return work / REPORT


def _named(
    stage: "str | type[OwnLoss]",
    settings: Sequence[str],
    backbone: "Callable[[], Backbone] | None",
    augmentation: "Augmentation | None",
) -> tuple[str, Sequence[str]]:
    """The stage and the settings, with the names of what is registered."""
    from tb.method.augmentation import registered_augmentation_name
    from tb.method.baselines import registered_method_name
    from tb.networks.backbones import registered_backbone_name

    if backbone is not None:
        settings = [*settings, f"backbone={registered_backbone_name(backbone)}"]
    if augmentation is not None:
        settings = [*settings, f"augmentation={registered_augmentation_name(augmentation)}"]
    return stage if isinstance(stage, str) else registered_method_name(stage), settings


@disk_errors_named
def evaluate(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    peek_test: bool = False,
) -> "Evaluation":
    """`tb eval`: the accuracy of a trained classifier on the held-out split.

    Args:
        stage: The classifier's folder in `out`.
        shards: The data set.
        out: The work folder; OUT/STAGE gets the predictions, a table of classes and a picture.
        preset: Settings.
        settings: Settings that override the preset's.
        peek_test: Read the split before training is over, or again; the record says so.
    """
    from tb.evaluation.evaluate import evaluate as evaluate_stage

    manifest, config, work = open_work(shards, out, preset, settings)
    return evaluate_stage(stage, manifest, config, work, peek=peek_test)


@disk_errors_named
def knn_probe(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    k: int = DEFAULT_K,
    temperature: float = DEFAULT_TEMPERATURE,
    all_labels: bool = False,
    peek_test: bool = False,
) -> "Evaluation":
    """`tb probe knn`: see `tb.evaluation.probes.knn_probe`."""
    from tb.evaluation import probes

    manifest, config, work = open_work(shards, out, preset, settings)
    return probes.knn_probe(
        stage,
        manifest,
        config,
        work,
        k=k,
        temperature=temperature,
        all_labels=all_labels,
        peek=peek_test,
    )


@disk_errors_named
def linear_probe(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    l2: float = DEFAULT_L2,
    all_labels: bool = False,
    peek_test: bool = False,
) -> "Evaluation":
    """`tb probe linear`: see `tb.evaluation.probes.linear_probe`."""
    from tb.evaluation import probes

    manifest, config, work = open_work(shards, out, preset, settings)
    return probes.linear_probe(
        stage, manifest, config, work, l2=l2, all_labels=all_labels, peek=peek_test
    )


@disk_errors_named
def retrieve(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    peek_test: bool = False,
) -> "Retrieval":
    """`tb retrieve`: see `tb.evaluation.probes.retrieve`."""
    from tb.evaluation import probes

    manifest, config, work = open_work(shards, out, preset, settings)
    return probes.retrieve(stage, manifest, config, work, peek=peek_test)


@disk_errors_named
def inspect_teachers(
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    with_hidden_labels: bool = False,
) -> "TeacherInspection":
    """`tb inspect teachers`: how good the targets are that a student would learn from.

    It writes OUT/teachers.json and OUT/teachers-*.png.

    Args:
        shards: The data set.
        out: The work folder, with both teachers.
        preset: Settings.
        settings: Settings that override the preset's.
        with_hidden_labels: Judge the unlabelled videos too, by labels that training does not have.
            That is for analysis only, and the record says so.
    """
    from tb.method import teacher_inspection
    from tb.reports.teacher_charts import chart_pngs

    manifest, config, work = open_work(shards, out, preset, settings)
    found = teacher_inspection.inspect_teachers(
        manifest, config, work, with_hidden_labels=with_hidden_labels
    )
    pictures = chart_pngs(found)
    # The numbers come first, so that no picture is newer. The report draws its own pictures.
    teacher_inspection.write_inspection(work, found)
    for name, png in pictures.items():
        publish_bytes(work / f"teachers-{name}.png", png)
    return found


@disk_errors_named
def report(
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """`tb report`: writes OUT/report.html and OUT/result.json; returns the path of the report."""
    from tb.reports.report import write_report

    manifest, config, work = open_work(shards, out, preset, settings)
    return write_report(manifest, config, work)


def export(run: Path | str, *, out: Path | str) -> dict[str, str]:
    """`tb export`: writes weights that the stock libraries load strictly.

    Args:
        run: A stage's folder, or a checkpoint.
        out: The *.safetensors file to write.

    Returns:
        The file's metadata (see `tb.weights.export.export_weights`).
    """
    from tb.weights.export import export_weights

    return export_weights(Path(run), Path(out))
