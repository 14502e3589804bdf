"""What the command line does, as functions; `import tb` offers them.

Options are keyword arguments with the names of the command line's. `shards` is a folder of finished
shards or its URL, `out` the work folder, `preset` a preset's name or YAML file. `settings` are
assignments as `--set` takes them: ["labels.percent=5"]. The work folder remembers its settings, so
`preset` and `settings` are needed once. Every function raises `InputError`, with one line that says
what to do, where something that the caller gave is missing or wrong.

Heavy modules are imported inside the functions: the command line answers before they load.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shards.errors import InputError

if TYPE_CHECKING:
    from shards.format.manifest import Manifest
    from shards.ingestion.ingest import IngestReport
    from shards.sources.source import Dataset
    from tb.config.differences import Tree
    from tb.config.sections import Config
    from tb.evaluation.accuracy import Evaluation
    from tb.evaluation.probes import Retrieval
    from tb.tables.reproduce import Reproduction
    from tb.weights.classifier import TrainedClassifier

ALL = "all"
"""For `train`: every stage in order."""
_MIB = 1 << 20


def shard(
    source: "Dataset | Path | str",
    *,
    out: Path | str,
    recipe: str | None = None,
    quality: int | None = None,
    gop: int | None = None,
    short_side: int | None = None,
    max_seconds: float | None = None,
    shard_mb: int = 128,
    seed: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    time_limit: float = 900.0,
    strict: bool = False,
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
        max_seconds: Longer videos are cut. None: no limit.
        shard_mb: Size of a shard, MiB.
        seed: Seeds the order in the shards.
        workers: Processes that encode. None: one for each CPU.
        ray: Address of a Ray cluster that encodes.
        time_limit: Seconds after which a video is given up.
        strict: Stop at the first bad video.
        progress: Called with (videos done, videos in all, key).
    """
    from shards.encode.codecs import DEFAULT_CODEC
    from shards.encode.recipe import Recipe
    from shards.ingestion.ingest import ingest
    from shards.progress import no_progress
    from shards.sources.folder import from_folder

    if isinstance(source, Path | str):
        source = from_folder(Path(source))
    return ingest(
        source,
        out,
        recipe=Recipe(
            codec=recipe or DEFAULT_CODEC,
            quality=quality,
            gop=gop,
            short_side_px=short_side,
            max_seconds=max_seconds,
        ),
        seed=seed,
        shard_bytes=shard_mb * _MIB,
        workers=workers,
        ray_address=ray,
        time_limit_s=time_limit,
        strict=strict,
        progress=progress or no_progress,
    )


def train(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    init: Path | str | None = None,
    name: str | None = None,
    jobs: int = 1,
) -> Path:
    """`tb train`: trains a stage, or all of them, from the last checkpoints where there are some.

    Args:
        stage: A stage (see `tb.stage_kinds.StageKind`), e.g. "invariant", "finetune-invariant" or
            "student"; or "all": every stage, the evaluation of the classifiers and the report.
        shards: The data set.
        out: The work folder.
        preset: Settings.
        settings: Settings that go over the preset's.
        init: For fine-tuning: the file to start from.
        name: For a student or a baseline: its folder in `out`.
        jobs: For "all": stages side by side. With more than one, the calling script needs an
            `if __name__ == "__main__"` guard.

    Returns:
        The final checkpoint; for "all" the report.
    """
    from tb.training.distributed import join
    from tb.workflow.run import run_all, run_stage

    manifest, config, work = _open(shards, out, preset, settings)
    if stage != ALL:
        if jobs != 1:
            raise InputError(f"jobs is {jobs}, but only 'all' has stages to run side by side")
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
        stage: Its folder in `out`.
        shards: The data set.
        out: The work folder; OUT/STAGE gets the predictions, a table of classes and a picture.
        preset: Settings.
        settings: Settings that go over the preset's.
        peek_test: Read the split before training is over, or again; the record says so.
    """
    from tb.evaluation.evaluate import evaluate as evaluate_stage

    manifest, config, work = _open(shards, out, preset, settings)
    return evaluate_stage(stage, manifest, config, work, peek=peek_test)


def knn_probe(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    k: int = 20,
    temperature: float = 0.07,
    all_labels: bool = False,
    peek_test: bool = False,
) -> "Evaluation":
    """`tb probe knn`: see `tb.evaluation.probes.knn_probe`."""
    from tb.evaluation import probes

    manifest, config, work = _open(shards, out, preset, settings)
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


def linear_probe(
    stage: str,
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
    l2: float = 1e-3,
    all_labels: bool = False,
    peek_test: bool = False,
) -> "Evaluation":
    """`tb probe linear`: see `tb.evaluation.probes.linear_probe`."""
    from tb.evaluation import probes

    manifest, config, work = _open(shards, out, preset, settings)
    return probes.linear_probe(
        stage, manifest, config, work, l2=l2, all_labels=all_labels, peek=peek_test
    )


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

    manifest, config, work = _open(shards, out, preset, settings)
    return probes.retrieve(stage, manifest, config, work, peek=peek_test)


def report(
    *,
    shards: Path | str,
    out: Path | str,
    preset: Path | str | None = None,
    settings: Sequence[str] = (),
) -> Path:
    """`tb report`: writes OUT/report.html and OUT/result.json; returns the first."""
    from tb.reports.report import write_report

    manifest, config, work = _open(shards, out, preset, settings)
    return write_report(manifest, config, work)


def load_classifier(path: Path | str, *, device: str = "auto") -> "TrainedClassifier":
    """A trained classifier in eval mode: (N, 3, T, H, W) clips -> (N, K) probabilities.

    Args:
        path: A stage's folder, a checkpoint, or a file that `export` wrote.
        device: A torch device, or "auto": CUDA where there is one.
    """
    from loaders.devices import usable_device
    from tb.weights.classifier import load_trained

    return load_trained(Path(path)).to(usable_device(device))


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


def demo(out: Path | str, *, size: str = "small", seed: int = 0) -> "Tree":
    """`tb demo`: made-up videos through the whole method; returns the content of OUT/result.json.

    Args:
        out: The folder for everything, made if missing.
        size: "tiny", "small" or "medium".
        seed: Seeds the videos and the training.
    """
    from tb.demo.demo import run_demo

    return run_demo(Path(out), size=size, seed=seed)


def reproduce(
    wanted: "Reproduction", *, out: Path | str, shards: Path | str | None = None, jobs: int = 1
) -> Path:
    """`tb reproduce`: trains and evaluates every row of a table of the paper.

    Args:
        wanted: The table, as in Reproduction(table="main", dataset="ucf101", seeds=3).
        out: The folder of all runs; several runners may share it.
        shards: The data set; the demo makes its own.
        jobs: Runs side by side on this machine.

    Returns:
        OUT/results.md, with our numbers beside the published ones.
    """
    manifest = _table_manifest(wanted, shards, Path(out))
    kinds = _class_kinds(wanted, list(manifest.classes))
    return wanted.run(manifest, Path(out), jobs=jobs, class_kinds=kinds)


def reproduce_cost(
    wanted: "Reproduction", *, out: Path | str, shards: Path | str | None = None
) -> str:
    """`tb reproduce --dry-run`: the runs that `reproduce` would make, and their hours, as text."""
    return wanted.cost(_table_manifest(wanted, shards, Path(out)), Path(out))


def _open(
    shards: Path | str, out: Path | str, preset: Path | str | None, overrides: Sequence[str]
) -> "tuple[Manifest, Config, Path]":
    """The data set, the settings of the work folder, and its path."""
    from shards.format.manifest import read_manifest
    from tb.config.load_config import work_config

    name = None if preset is None else str(preset)
    return read_manifest(shards), work_config(Path(out), name, overrides), Path(out)


def _table_manifest(wanted: "Reproduction", shards: Path | str | None, out: Path) -> "Manifest":
    from shards.format.manifest import read_manifest

    wanted.grid()  # refuses unknown options before the demo's videos are made
    if shards is not None:
        return read_manifest(shards)
    if not wanted.is_demo:
        raise InputError(
            f"--shards is missing: shard the set first, as in `tb shard {wanted.dataset}`"
        )
    from tb.demo.demo import demo_shards

    return demo_shards(out, size="small", seed=0)


def _class_kinds(wanted: "Reproduction", classes: list[str]) -> dict[str, list[int]]:
    """The class indices of the demo's two kinds of classes; empty for other sets."""
    from tb.demo.videos import APPEARANCE_CLASSES

    if not wanted.is_demo:
        return {}
    kinds: dict[str, list[int]] = {"appearance": [], "motion": []}
    for label, name in enumerate(classes):
        kinds["appearance" if name in APPEARANCE_CLASSES else "motion"].append(label)
    return kinds
