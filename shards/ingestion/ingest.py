"""`ingest`: makes a finished folder of shards from sources, also after an interruption.

Workers encode and this process writes, in an order that the seed fixes. Every finished shard leaves
a note in OUT/.ingest/. After an interruption, the next run goes on after the last note and writes
the same bytes as an uninterrupted run. Only the work on the shard in progress is lost.
"""

from contextlib import closing
from functools import partial
from pathlib import Path

from shards.counted import counted
from shards.cpus import num_cpus
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.files.store import open_set
from shards.format.dataset_json import SEED_LIMIT
from shards.format.set_names import check_names
from shards.ingestion.default_limits import DEFAULT_SHARD_MB, DEFAULT_TIME_LIMIT_S
from shards.ingestion.ingest_report import IngestReport
from shards.ingestion.job import IngestionJob, Results
from shards.ingestion.passes import Pass
from shards.ingestion.pool import encode_all
from shards.ingestion.ray_pool import encode_all_on_ray
from shards.progress import Progress
from shards.sources.source import Dataset


def ingest(
    dataset: Dataset,
    out: Path | str,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    shard_bytes: int = DEFAULT_SHARD_MB << 20,
    workers: int | None = None,
    ray_address: str | None = None,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    strict: bool = False,
    append: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Writes the data set as shards into `out`, or finishes what an interrupted run began.

    The same sources, recipe and seed give the same bytes and digest; the number of workers and
    interruptions does not matter. OUT/skipped.jsonl lists the videos that cannot be used and those
    that are missing, with the reason. A class that loses all its videos stays, without a video.

    If an unfinished run skipped a video for a reason that may have passed, the video is tried
    again. If it can be used now, the shards from its place on are written again. A finished folder
    stays as it is.

    Args:
        dataset: What to store.
        out: The folder, created if missing: a path, or a URL that fsspec opens.
        recipe: How to store it; the default is Recipe().
        seed: The seed of the order in which the videos lie in the shards.
        shard_bytes: No video is added to a shard that would then be larger than this.
        workers: How many processes encode; by default one for each CPU that this process may use,
            or for each CPU of the cluster.
        ray_address: Encode on this Ray cluster ("auto": the one running here), not on this machine.
        time_limit_s: A video that takes longer is skipped, because some decoders hang. For the
            segments of a file, the time counts from one to the next.
        strict: Stop at the first video that would be skipped.
        append: Add the videos that the finished set in `out` does not have, see
            `ingestion.growth`. Its shards stay, and its earlier state stays readable by its digest.
            Until the run has finished, the folder holds the earlier state.
        progress: Called in this thread with (videos done, all videos, key).

    Returns:
        What was done.

    Raises:
        InputError: `out` holds something else or cannot be written, no video can be used, the name
            of the data set or of a class is too long or has control characters, `strict` is set and
            a video is (or was, in an earlier run) skipped, or `append` is set and there is no
            finished set, or the videos or the recipe do not fit it.
    """
    recipe = recipe or Recipe()
    _check_arguments(dataset, recipe, workers, seed, shard_bytes, time_limit_s)
    store, digest = open_set(out)
    if digest:
        raise InputError(
            f"{out}: with @{digest} at its end it is an earlier state, which never changes; leave"
            " that out"
        )
    job = IngestionJob(
        dataset=dataset,
        store=store,
        recipe=recipe,
        seed=seed,
        shard_bytes=shard_bytes,
        strict=strict,
        encode=partial(_encoded, recipe, workers, ray_address, time_limit_s, store.scratch),
        append=append,
    )
    with closing(job.steps()) as steps:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                report: IngestReport = end.value
                return report
            # It is called here, because an error of the callback is not an error of the disk.
            if progress is not None:
                progress(*step)


def _check_arguments(
    dataset: Dataset,
    recipe: Recipe,
    workers: int | None,
    seed: int,
    shard_bytes: int,
    time_limit_s: float,
) -> None:
    if (workers is not None and workers < 1) or shard_bytes < 1 or not time_limit_s > 0:
        raise InputError(
            f"workers {workers}, shard bytes {shard_bytes}, time limit {time_limit_s} s: must be"
            " above 0"
        )
    if not 0 <= seed < SEED_LIMIT:
        raise InputError(f"seed: must be a whole number from 0 to below {SEED_LIMIT}")
    check_names(dataset.name, dataset.classes)
    if not dataset.sources:
        raise InputError(f"{dataset.name}: there are no videos to store")
    num_segments = sum(source.segment is not None for source in dataset.sources)
    if recipe.codec_type.keeps_files and num_segments:
        raise InputError(
            f"recipe {recipe.codec}: it stores whole files, but {dataset.name} has"
            f" {counted(num_segments, 'segment')}; leave out start_s and end_s, or choose another"
            " recipe"
        )


def _encoded(
    recipe: Recipe,
    workers: int | None,
    ray_address: str | None,
    time_limit_s: float,
    scratch: Path,
    passes: list[Pass],
) -> Results:
    if ray_address is not None:
        return encode_all_on_ray(passes, recipe, workers, time_limit_s, ray_address)
    num_workers = min(workers or num_cpus(), max(1, len(passes)))
    return encode_all(passes, recipe, num_workers, time_limit_s, scratch)
