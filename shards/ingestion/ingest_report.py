"""`IngestReport`: what an ingestion did."""

from dataclasses import dataclass

from shards.format.dataset_json import DatasetJson


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
        num_added: How many videos were added to a set that was finished before.
        earlier: The digest of that set; "" if no video was added.
    """

    num_videos: int
    num_skipped: int
    num_missing: int
    num_shards: int
    num_bytes: int
    digest: str
    num_resumed: int = 0
    already_done: bool = False
    num_added: int = 0
    earlier: str = ""


def report_on(
    about: DatasetJson,
    *,
    num_resumed: int = 0,
    already_done: bool = False,
    num_added: int = 0,
    earlier: str = "",
) -> IngestReport:
    """The report on a finished folder; see `IngestReport` for the arguments."""
    return IngestReport(
        num_videos=about.num_videos,
        num_skipped=about.num_skipped,
        num_missing=about.num_missing,
        num_shards=len(about.shards),
        num_bytes=sum(shard.num_bytes for shard in about.shards),
        digest=about.digest,
        num_resumed=num_resumed,
        already_done=already_done,
        num_added=num_added,
        earlier=earlier,
    )
