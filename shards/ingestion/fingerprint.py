"""What an ingestion was asked to do, as one hash: does a second run want the same?"""

import hashlib
import json
from dataclasses import asdict

from shards.encode.recipe import Recipe
from shards.files.names import relative_name
from shards.format.dataset_json import FORMAT_VERSION
from shards.sources.source import Dataset


def fingerprint(dataset: Dataset, recipe: Recipe, seed: int, shard_bytes: int) -> str:
    """The hex SHA-256 of everything that decides what the shards hold, but for the videos' bytes.

    Of each video only the size counts, because reading terabytes twice would take too long.
    """
    sources = [
        (
            source.key,
            source.label,
            source.splits,
            source.group,
            relative_name(source.path, dataset.root),
            source.num_bytes(),
            source.fault,
        )
        for source in dataset.sources
    ]
    content = [
        FORMAT_VERSION,
        dataset.name,
        list(dataset.classes),
        asdict(recipe),
        seed,
        shard_bytes,
        list(dataset.missing),
        sources,
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
