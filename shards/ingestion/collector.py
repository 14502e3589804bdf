"""`collecting` lends a `ShardCollector`, which fills shards and notes each finished one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shards.encode.encoded import Encoded
from shards.files.store import Store
from shards.format.dataset_json import ShardFile
from shards.format.shard import ShardWriter
from shards.format.skipped_jsonl import Skipped
from shards.format.video import Video
from shards.ingestion.journal import Journal, Note
from shards.sources.source import Dataset, Source


class ShardCollector:
    """Fills one shard after the other; `collecting` finishes and closes it.

    Attributes:
        videos: The rows so far, with those of an interrupted run.
        skipped: The videos that were left out so far, with those of an interrupted run.
        position: How many sources are stored or left out.
        shards: The shards that are published.
    """

    def __init__(
        self,
        dataset: Dataset,
        store: Store,
        journal: Journal,
        notes: Sequence[Note],
        shard_bytes: int,
    ) -> None:
        """Goes on after the shards of `notes`."""
        self._dataset, self._store, self._journal = dataset, store, journal
        self._shard_bytes = shard_bytes
        self._first_shard = journal.first_shard
        self._writer: ShardWriter | None = None
        self.videos = [video for note in notes for video in note.videos]
        self.skipped = [entry for note in notes for entry in note.skipped]
        self.position = notes[-1].next_position if notes else 0
        self.shards = [note.shard for note in notes]
        self._mark_start()

    def add(self, source: Source, encoded: Encoded) -> None:
        """Stores the video of the next source, in a new shard if the current one is full."""
        video = self._video(source, encoded)
        kind, data, packets = encoded.extension, encoded.data, encoded.packets
        while (stored := self._open_shard().add(video, kind, data, packets)) is None:
            self._end_shard()
        self.videos.append(stored)
        self.position += 1

    def skip(self, source: Source, reason: str, *, may_pass: bool) -> None:
        """Leaves out the video of the next source."""
        self.skipped.append(
            Skipped(source=source.name, key=source.key, reason=reason, may_pass=may_pass)
        )
        self.position += 1

    def finish(self) -> None:
        """Publishes the last shard."""
        if self._writer:
            self._end_shard()

    def close(self) -> None:
        """Removes a shard that is not published."""
        if self._writer:
            self._writer.close()
            self._writer = None

    def _open_shard(self) -> ShardWriter:
        """The shard in progress; a new one if there is none."""
        if self._writer is None:
            self._writer = ShardWriter(
                self._store, self._number, self._dataset.classes, self._shard_bytes
            )
        return self._writer

    @property
    def _number(self) -> int:
        """The number of the shard in progress."""
        return self._first_shard + len(self.shards)

    def _end_shard(self) -> None:
        assert self._writer is not None
        num_bytes, sha256 = self._writer.publish()
        shard = ShardFile(name=self._writer.name, num_bytes=num_bytes, sha256=sha256)
        self._writer = None
        note = Note(
            next_position=self.position,
            videos=self.videos[self._first_video :],
            skipped=self.skipped[self._first_skipped :],
            shard=shard,
        )
        # The note comes after the shard. A shard without its note is only written again; a note
        # without its shard would lose videos.
        self._journal.add(self._number, note)
        self.shards.append(shard)
        self._mark_start()

    def _mark_start(self) -> None:
        self._first_video, self._first_skipped = len(self.videos), len(self.skipped)

    def _video(self, source: Source, encoded: Encoded) -> Video:
        """The row of a video, without its place in the shards."""
        return Video(
            key=source.key,
            label=source.label,
            splits=source.splits,
            group=source.group,
            num_frames=encoded.num_frames,
            fps_num=encoded.fps.numerator,
            fps_den=encoded.fps.denominator,
            height=encoded.height,
            width=encoded.width,
            codec=encoded.codec,
            pixel_format=encoded.pictures.pixel_format,
            color_matrix=encoded.pictures.color_matrix,
            color_range=encoded.pictures.color_range,
            shard="",
            offset=0,
            size=len(encoded.data),
            sha256=encoded.sha256,
            packets_sha256=encoded.packets.sha256() if encoded.packets else "",
            source=source.name,
            source_bytes=source.num_bytes,
        )


@contextmanager
def collecting(
    dataset: Dataset, store: Store, journal: Journal, notes: Sequence[Note], shard_bytes: int
) -> Iterator[ShardCollector]:
    """Lends a collector that goes on after the shards of `notes`.

    The end of the block publishes the last shard. An exception in the block removes it.
    """
    collector = ShardCollector(dataset, store, journal, notes, shard_bytes)
    try:
        yield collector
        collector.finish()
    finally:
        collector.close()
