"""One hash of the task of an ingestion, which shows whether a second run has the same task."""

import hashlib
import json

from shards.format.dataset_json import FORMAT_VERSION
from shards.sources.source import Dataset


def fingerprint(
    dataset: Dataset,
    recipe: dict[str, str | int | float | None],
    seed: int,
    shard_bytes: int,
    base_digest: str = "",
) -> str:
    """The hex SHA-256 of what decides the content of the shards, except the bytes of the videos.

    Of a video's bytes only their number counts, because reading terabytes twice would take too
    long. The versions of the libraries are kept apart (`journal.Settings`).

    Args:
        dataset: What is stored.
        recipe: How it is stored, see `Recipe.to_json`.
        seed: The seed of the order.
        shard_bytes: The size of a shard.
        base_digest: The digest of the set to which the videos are added; "" for a new set.
    """
    sources = [
        (
            source.key,
            source.label,
            source.splits,
            source.group,
            source.name,
            source.num_bytes,
            source.refusal,
        )
        for source in dataset.sources
    ]
    content = [
        FORMAT_VERSION,
        dataset.name,
        list(dataset.classes),
        recipe,
        seed,
        shard_bytes,
        list(dataset.missing),
        sources,
    ]
    if base_digest:
        content.append(base_digest)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
