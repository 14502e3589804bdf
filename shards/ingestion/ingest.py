"""`ingest`: sources become a finished folder of shards, also after an interruption.

Workers encode and this process writes, in an order that the seed fixes. Every finished shard leaves
a note in OUT/.ingest/. An interrupted run goes on after the last note and writes the same bytes as
an uninterrupted run. The price: the work on the shard in progress is lost.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path

import numpy as np

from shards.cpus import num_cpus
from shards.encode.recipe import Recipe
from shards.encode.transcode import Encoded, TranscodeError
from shards.encode.versions import library_versions
from shards.errors import InputError
from shards.files.store import Store, open_store
from shards.format.dataset_json import DATASET_NAME, DatasetJson, read_dataset_json, split_counts
from shards.format.manifest import write_manifest
from shards.format.skipped import SKIPPED_NAME, Skipped, read_skipped, write_skipped
from shards.ingestion.collector import ShardCollector
from shards.ingestion.default_limits import DEFAULT_SHARD_MB, DEFAULT_TIME_LIMIT_S
from shards.ingestion.fingerprint import fingerprint
from shards.ingestion.journal import Journal, Note, Settings
from shards.ingestion.out_checks import check_apart, disk_errors
from shards.ingestion.passes import Pass, files_of, pass_of, passes_over
from shards.ingestion.pool import encode_all
from shards.ingestion.ray_pool import encode_all_on_ray
from shards.progress import Progress, no_progress
from shards.sources.source import Dataset, Source

Results = Generator[Encoded | TranscodeError, None, None]
Encode = Callable[[list[Pass]], Results]
# What `Progress` is called with, step by step, and the report in the end.
Steps = Generator[tuple[int, int, str], None, "IngestReport"]


class NothingUsableError(InputError):
    """No video of a source can be stored."""


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What `ingest` did.

    Attributes:
        num_videos: How many videos are stored.
        num_skipped: How many videos could not be used.
        num_missing: How many videos the lists of the data set name and the disk does not have.
        num_shards: How many shards there are.
        num_bytes: The size of all shards.
        digest: The hex SHA-256 of the content.
        num_resumed: How many sources an earlier, interrupted run had dealt with.
        already_done: Whether an earlier run had finished, so that nothing was written.
    """

    num_videos: int
    num_skipped: int
    num_missing: int
    num_shards: int
    num_bytes: int
    digest: str
    num_resumed: int = 0
    already_done: bool = False


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
    progress: Progress = no_progress,
) -> IngestReport:
    """Writes the data set as shards into `out`, or finishes what an interrupted run began.

    The same sources, recipe and seed give the same bytes and digest, whatever the number of workers
    and interruptions. OUT/skipped.jsonl lists the videos that do not decode and those that are
    missing, with the reason. A class that loses all its videos stays, without a video.

    An unfinished run may have skipped videos for reasons that may have passed, and they are tried
    again. Shards are then written again, from the first one that such a video belongs to. A
    finished folder stays as it is.

    Args:
        dataset: What to store.
        out: The folder, created if missing: a path, or a URL that fsspec opens.
        recipe: How to store it; the default is Recipe().
        seed: The seed of the order in which the videos lie in the shards.
        shard_bytes: No video is added to a shard that would then be larger than this.
        workers: How many processes encode; by default one for each CPU that this process may use,
            or for each CPU of the cluster.
        ray_address: Encode on this Ray cluster ("auto": the one running here), not on this machine.
        time_limit_s: A video that takes longer is skipped, because some decoders hang.
        strict: Stop at the first video that would be skipped.
        progress: Called in this thread with (videos done, all videos, key).

    Returns:
        What was done.

    Raises:
        InputError: `out` holds something else or cannot be written, no video can be used, or
            `strict` is set and a video is (or was, in an earlier run) skipped.
    """
    recipe = recipe or Recipe()
    _check_arguments(dataset, recipe, workers, seed, shard_bytes, time_limit_s)
    store = open_store(out)
    job = _Job(
        dataset=dataset,
        store=store,
        recipe=recipe,
        seed=seed,
        shard_bytes=shard_bytes,
        strict=strict,
        encode=partial(_encoded, recipe, workers, ray_address, time_limit_s, store.scratch),
        fingerprint=fingerprint(dataset, recipe, seed, shard_bytes),
    )
    with disk_errors(job.store.name):
        check_apart(dataset, out)
    with closing(job.steps()) as steps:
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                report: IngestReport = end.value
                return report
            # Called here, because an error of the callback is not an error of the disk.
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
    if seed < 0:
        raise InputError(f"seed {seed}: must not be below 0")
    if not dataset.sources:
        raise InputError(f"{dataset.name}: there are no videos to store")
    num_segments = sum(source.segment is not None for source in dataset.sources)
    if recipe.codec_type.keeps_files and num_segments:
        raise InputError(
            f"recipe {recipe.codec}: it stores whole files, but {num_segments} videos of"
            f" {dataset.name} are segments; leave out start_s and end_s, or choose another recipe"
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


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One call of `ingest`; see there for the fields."""

    dataset: Dataset
    store: Store
    recipe: Recipe
    seed: int
    shard_bytes: int
    strict: bool
    encode: Encode
    fingerprint: str

    def is_finished(self) -> bool:
        """Whether the folder has a dataset.json, which is written last."""
        return self.store.size(DATASET_NAME) is not None

    def steps(self) -> Steps:
        """Does the work, unless an earlier run has finished it.

        Raises:
            InputError: While iterating; see `ingest`.
        """
        with disk_errors(self.store.name):
            if self.is_finished():
                return self.finished_before()
            with Journal(self.store).locked():
                if self.is_finished():  # another process has just finished
                    return self.finished_before()
                return (yield from self.run())

    def run(self) -> Steps:
        """Encodes what no finished shard holds, and finishes the folder."""
        journal = Journal(self.store)
        notes = journal.start(Settings(fingerprint=self.fingerprint, versions=library_versions()))
        notes = self._try_again(journal, notes)
        num_resumed = notes[-1].next_position if notes else 0
        if self.strict:
            self._refuse_skipped([entry for note in notes for entry in note.skipped])
        collector = ShardCollector(self.dataset, self.store, journal, notes, self.shard_bytes)
        ordered = [source for one_pass in self.passes for source in one_pass]
        yield from self._collect(collector, ordered[num_resumed:])
        write_skipped(self.store, collector.skipped, self.dataset.missing)
        if not collector.videos:
            journal.remove()
            raise self._nothing_usable(collector.skipped)
        written = write_manifest(self.store, collector.videos, self._about(collector))
        journal.remove()
        return _report(written, num_resumed=num_resumed)

    def finished_before(self) -> IngestReport:
        """The report on a folder that an earlier run has finished.

        Raises:
            InputError: That run stored something else, or its shards were changed since.
        """
        about = read_dataset_json(self.store.name)
        if about.fingerprint != self.fingerprint:
            raise InputError(
                f"{self.store.name}: holds finished shards of other videos, recipe or seed; choose"
                " another --out, or delete the folder"
            )
        for shard in about.shards:
            size = self.store.size(shard.name)
            if size != shard.num_bytes:
                found = "missing"
                if size is not None:
                    found = f"has {size} bytes, was written with {shard.num_bytes}"
                raise InputError(
                    f"{self.store.name}/{shard.name}: {found}; check the others with `tb data"
                    f" verify {self.store.name}`, or delete {self.store.name} and run again"
                )
        if self.strict:
            self._refuse_skipped([entry for entry in read_skipped(self.store) if entry.key])
        # It is still there if the last run was killed between its last two steps.
        Journal(self.store).remove()
        return _report(about, num_resumed=about.num_sources, already_done=True)

    def _try_again(self, journal: Journal, notes: list[Note]) -> list[Note]:
        """The notes before the first one that left out a video which can be used now."""
        source_of = {source.key: source for source in self.dataset.sources}
        skipped = [
            (index, place, source_of[entry.key])
            for index, note in enumerate(notes)
            for place, entry in enumerate(note.skipped)
            if entry.may_pass
        ]
        if not skipped:
            return notes
        passes = self._passes_of(source for *_, source in skipped)
        with closing(self.encode(passes)) as results:
            for (index, place, source), result in zip(skipped, results, strict=True):
                if isinstance(result, Encoded):
                    journal.forget(index)
                    return notes[:index]
                reason, may_pass = _reason(source, result)
                entries = list(notes[index].skipped)
                entries[place] = replace(entries[place], reason=reason, may_pass=may_pass)
                notes[index] = replace(notes[index], skipped=entries)
        return notes

    def _collect(
        self, collector: ShardCollector, left: Sequence[Source]
    ) -> Iterator[tuple[int, int, str]]:
        """Collects the sources that no finished shard holds."""
        num_sources = collector.position + len(left)
        yield collector.position, num_sources, ""
        results = self.encode(self._passes_of(source for source in left if not source.fault))
        with closing(collector), closing(results):
            for source in left:
                result = source.fault or next(results)
                if isinstance(result, Encoded):
                    collector.add(source, result)
                else:
                    reason, may_pass = _reason(source, result)
                    if self.strict:
                        raise _refusal(source, reason)
                    collector.skip(source, reason, may_pass=may_pass)
                yield collector.position, num_sources, source.key
            collector.finish()

    @cached_property
    def passes(self) -> list[list[Source]]:
        """All sources in the order of the shards, a list for each pass over a file."""
        files = files_of(self.dataset.sources)
        order = np.random.default_rng(self.seed).permutation(len(files))
        return [one for index in order for one in passes_over(files[index], self.recipe)]

    def _passes_of(self, sources: Iterable[Source]) -> list[Pass]:
        """The passes that are needed for some of the sources, which have the order of `passes`."""
        number_of = {
            source.key: number for number, one_pass in enumerate(self.passes) for source in one_pass
        }
        groups = groupby(sources, key=lambda source: number_of[source.key])
        return [pass_of(list(group)) for _, group in groups]

    def _refuse_skipped(self, skipped: Sequence[Skipped]) -> None:
        source_of = {source.key: source for source in self.dataset.sources}
        for entry in skipped:
            raise _refusal(source_of[entry.key], entry.reason)

    def _nothing_usable(self, skipped: Sequence[Skipped]) -> NothingUsableError:
        return NothingUsableError(
            f"{self.dataset.root}: none of the {len(skipped)} videos can be used, e.g."
            f" {skipped[0].source}: {skipped[0].reason}; all reasons are in"
            f" {self.store.name}/{SKIPPED_NAME}"
        )

    def _about(self, collector: ShardCollector) -> DatasetJson:
        """The content of dataset.json, except the digests."""
        return DatasetJson(
            name=self.dataset.name,
            num_videos=len(collector.videos),
            counts=split_counts(video.splits for video in collector.videos),
            digest="",
            manifest_sha256="",
            num_sources=len(self.dataset.sources),
            num_skipped=len(collector.skipped),
            num_missing=len(self.dataset.missing),
            num_frames=sum(video.num_frames for video in collector.videos),
            recipe=self.recipe.to_json(),
            seed=self.seed,
            fingerprint=self.fingerprint,
            versions=library_versions(),
            shards=tuple(collector.shards),
            classes=self.dataset.classes,
        )


def _reason(source: Source, problem: str | TranscodeError) -> tuple[str, bool]:
    """Why a video is skipped, and whether another try may succeed."""
    if isinstance(problem, str):
        return problem, False
    return str(problem).removeprefix(f"{source.path.name}: "), problem.may_pass


def _refusal(source: Source, reason: str) -> InputError:
    return InputError(f"{source.path}: {reason}; run without --strict to leave this video out")


def _report(about: DatasetJson, *, num_resumed: int, already_done: bool = False) -> IngestReport:
    return IngestReport(
        num_videos=about.num_videos,
        num_skipped=about.num_skipped,
        num_missing=about.num_missing,
        num_shards=len(about.shards),
        num_bytes=sum(shard.num_bytes for shard in about.shards),
        digest=about.digest,
        num_resumed=num_resumed,
        already_done=already_done,
    )
