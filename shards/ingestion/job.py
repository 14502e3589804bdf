"""`IngestionJob`: the steps of one ingestion, from the first source to dataset.json."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.versions import library_versions
from shards.errors import InputError
from shards.files.store import Store
from shards.format.dataset_json import (
    DATASET_NAME,
    DatasetJson,
    ShardFile,
    read_dataset_json,
    write_dataset_json,
)
from shards.format.earlier_states import keep_earlier
from shards.format.manifest import write_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME, Skipped, read_skipped, write_skipped
from shards.format.splits import split_counts
from shards.format.video import Video
from shards.ingestion.collector import ShardCollector, collecting
from shards.ingestion.fingerprint import fingerprint
from shards.ingestion.growth import Base, left_out_of, new_in, read_base
from shards.ingestion.ingest_report import IngestReport, report_on
from shards.ingestion.journal import Journal, Note, Settings
from shards.ingestion.out_checks import check_apart, disk_errors
from shards.ingestion.passes import Pass, ordered_passes
from shards.sources.source import Dataset, Source

Results = Generator[Encoded | TranscodeError, None, None]
Encode = Callable[[list[Pass]], Results]
# Yields the arguments of each call of `Progress`, and returns the report.
Steps = Generator[tuple[int, int, str], None, IngestReport]


class NothingUsableError(InputError):
    """No video of a data set can be stored."""


@dataclass(frozen=True, kw_only=True)
class IngestionJob:
    """One call of `ingest`, which explains the fields."""

    dataset: Dataset
    store: Store
    recipe: Recipe
    seed: int
    shard_bytes: int
    strict: bool
    encode: Encode
    append: bool
    base: Base | None = None

    @cached_property
    def settings(self) -> Settings:
        """What must be the same when the ingestion goes on."""
        digest = self.base.about.digest if self.base else ""
        task = fingerprint(self.dataset, self.recipe_values, self.seed, self.shard_bytes, digest)
        return Settings(fingerprint=task, versions=library_versions())

    @cached_property
    def recipe_values(self) -> dict[str, str | int | float | None]:
        """The recipe as the fingerprint and dataset.json take it."""
        return self.recipe.to_json()

    def is_finished(self) -> bool:
        """Whether the folder has a dataset.json, which is written last."""
        return self.store.size(DATASET_NAME) is not None

    def steps(self) -> Steps:
        """Does the work, unless an earlier run has finished it.

        Raises:
            InputError: While iterating; see `ingest`.
        """
        with disk_errors(self.store.name):
            if self.store.folder is not None:
                check_apart(self.dataset, self.store.folder)
            if self.append:
                return (yield from self.grow())
            if self.is_finished():
                return self.finished_before()
            with Journal.opened(self.store) as journal:
                if self.is_finished():  # another process has just finished
                    report = self.finished_before()
                    journal.remove()
                    return report
                return (yield from self.run(journal))

    def grow(self) -> Steps:
        """Adds the videos that the finished set does not have."""
        base = read_base(self.store)
        self.remove_journal_of(base.about)
        new = new_in(self.dataset, base, self.recipe, self.seed)
        if not new.sources and base.knows(new.missing):
            return report_on(base.about, already_done=True)
        with Journal.opened(self.store, len(base.about.shards)) as journal:
            if read_dataset_json(self.store.name).digest != base.about.digest:
                raise InputError(
                    f"{self.store.name}: another `tb shard` has just added videos; run again"
                )
            return (yield from replace(self, dataset=new, base=base).run(journal))

    def remove_journal_of(self, about: DatasetJson) -> None:
        """Removes the journal of a run that was killed right after it had finished the folder."""
        num_shards = len(about.shards)
        earlier = Journal(self.store, num_shards).fingerprint()
        if earlier == about.fingerprint or (earlier is None and self.store.scratch.exists()):
            # Somebody may be about to write.
            with suppress(InputError), Journal.opened(self.store, num_shards) as journal:
                journal.remove()

    def run(self, journal: Journal) -> Steps:
        """Encodes the videos that no finished shard has, and finishes the folder."""
        notes = self._try_again(journal, journal.start(self.settings))
        num_resumed = notes[-1].next_position if notes else 0
        if self.strict:
            self._refuse_skipped([entry for note in notes for entry in note.skipped])
        ordered = [source for one_pass in self.passes for source in one_pass]
        with collecting(self.dataset, self.store, journal, notes, self.shard_bytes) as collector:
            yield from self._collect(collector, ordered[num_resumed:])
        about = self._grown(collector) if self.base else self._finished(collector, journal)
        journal.remove()
        num_added = len(collector.videos) if self.base else 0
        earlier = self.base.about.digest if self.base and num_added else ""
        return report_on(about, num_resumed=num_resumed, num_added=num_added, earlier=earlier)

    def _finished(self, collector: ShardCollector, journal: Journal) -> DatasetJson:
        """Finishes a new set.

        Raises:
            NothingUsableError: It has no video.
        """
        missing = self.dataset.missing
        write_skipped(self.store, collector.skipped, missing)
        if not collector.videos:
            journal.remove()
            raise self._nothing_usable(collector.skipped)
        about = self._about(
            collector.videos, collector.shards, len(collector.skipped), len(missing)
        )
        return write_manifest(self.store, collector.videos, about)

    def _grown(self, collector: ShardCollector) -> DatasetJson:
        """Finishes a set that got more videos; until the last step, it keeps its earlier state."""
        assert self.base is not None
        base = self.base
        videos = [*base.videos, *collector.videos]
        skipped, missing = left_out_of(base, self.dataset, videos, collector.skipped)
        if collector.videos:
            keep_earlier(self.store, base.about)
        write_skipped(self.store, skipped, missing)
        shards = [*base.about.shards, *collector.shards]
        about = self._about(videos, shards, len(skipped), len(missing))
        if collector.videos:
            return write_manifest(self.store, videos, about)
        about = replace(
            base.about,
            num_sources=about.num_sources,
            num_skipped=about.num_skipped,
            num_missing=about.num_missing,
        )
        write_dataset_json(self.store, about)
        return about

    def finished_before(self) -> IngestReport:
        """The report on a folder that an earlier run has finished.

        Raises:
            InputError: That run stored something else, a shard is missing or has another size now,
                or `strict` is set and the run skipped a video.
        """
        about = read_dataset_json(self.store.name)
        if about.fingerprint != self.settings.fingerprint:
            raise InputError(
                f"{self.store.name}: holds finished shards of other videos, recipe or seed; choose"
                " another --out, add new videos with --append, or delete the folder"
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
            self._refuse_skipped(read_skipped(self.store))
        self.remove_journal_of(about)
        return report_on(about, num_resumed=about.num_sources, already_done=True)

    def _try_again(self, journal: Journal, notes: list[Note]) -> list[Note]:
        """The notes before the first whose skipped video can be used now; all if there is none."""
        source_of = {source.key: source for source in self.dataset.sources}
        skipped = [
            (index, place, source_of[entry.key])
            for index, note in enumerate(notes)
            for place, entry in enumerate(note.skipped)
            if entry.may_pass
        ]
        if not skipped:
            return notes
        with closing(self.encode(self._passes_for(source for *_, source in skipped))) as results:
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
        base, num_sources = self.base, collector.position + len(left)
        yield collector.position, num_sources, ""
        usable = (source for source in left if not source.refusal)
        with closing(self.encode(self._passes_for(usable))) as results:
            for source in left:
                result = source.refusal or next(results)
                if base and isinstance(result, Encoded) and (twin := base.twin_of(result)):
                    result = f"the same video is in the set, as {twin}"
                if isinstance(result, Encoded):
                    collector.add(source, result)
                else:
                    reason, may_pass = _reason(source, result)
                    if self.strict:
                        raise _refusal(source, reason)
                    collector.skip(source, reason, may_pass=may_pass)
                yield collector.position, num_sources, source.key

    @cached_property
    def passes(self) -> list[list[Source]]:
        """All sources in the order of the shards; see `ordered_passes`."""
        return ordered_passes(self.dataset.sources, self.recipe, self.seed)

    def _passes_for(self, sources: Iterable[Source]) -> list[Pass]:
        """The passes that some of the sources need; their parts are in the order of the shards."""
        keys = {source.key for source in sources}
        groups = ([one for one in group if one.key in keys] for group in self.passes)
        return [
            Pass(path=group[0].path, parts=tuple(source.segment for source in group))
            for group in groups
            if group
        ]

    def _refuse_skipped(self, skipped: Sequence[Skipped]) -> None:
        source_of = {source.name: source for source in self.dataset.sources}
        for entry in skipped:
            # Others are not on disk, or came from another source with `--append`.
            if entry.source in source_of:
                raise _refusal(source_of[entry.source], entry.reason)

    def _nothing_usable(self, skipped: Sequence[Skipped]) -> NothingUsableError:
        return NothingUsableError(
            f"{self.dataset.root}: none of the videos ({len(skipped)}) can be used, e.g."
            f" {skipped[0].source}: {skipped[0].reason}; all reasons are in"
            f" {self.store.name}/{SKIPPED_NAME}"
        )

    def _about(
        self,
        videos: Sequence[Video],
        shards: Sequence[ShardFile],
        num_skipped: int,
        num_missing: int,
    ) -> DatasetJson:
        """The content of dataset.json, except the digests."""
        return DatasetJson(
            name=self.dataset.name,
            num_videos=len(videos),
            counts=split_counts(video.splits for video in videos),
            digest="",
            manifest_sha256="",
            num_sources=len(videos) + num_skipped,
            num_skipped=num_skipped,
            num_missing=num_missing,
            num_frames=sum(video.num_frames for video in videos),
            recipe=self.recipe_values,
            seed=self.seed,
            fingerprint=self.settings.fingerprint,
            versions=self.settings.versions,
            shards=tuple(shards),
            classes=self.dataset.classes,
        )


def _reason(source: Source, problem: str | TranscodeError) -> tuple[str, bool]:
    """Why a video is skipped, and whether another try may succeed."""
    if isinstance(problem, str):
        return problem, False
    return str(problem).removeprefix(f"{source.path.name}: "), problem.may_pass


def _refusal(source: Source, reason: str) -> InputError:
    return InputError(f"{source.path}: {reason}; run without --strict to leave this video out")
