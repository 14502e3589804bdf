"""Earlier states of a folder of shards: what it held before `tb shard --append` added videos.

manifest.parquet and dataset.json are those of the newest state. The two files of each earlier state
are kept beside them; their names contain the beginning of its digest. No shard is ever changed, so
an earlier state stays readable.
"""

import hashlib

from shards.files.store import Store
from shards.format.dataset_json import (
    DATASET_NAME,
    DatasetJson,
    earlier_name,
    write_dataset_json,
)

MANIFEST_NAME = "manifest.parquet"


def keep_earlier(store: Store, about: DatasetJson) -> None:
    """Keeps the two files of a finished folder under other names, before it gets more videos.

    The folder then keeps this state: `read_manifest` finds it by its digest.
    """
    data = manifest_bytes(store, about)
    assert data is not None
    store.put_bytes(earlier_name(MANIFEST_NAME, about.digest), data)
    write_dataset_json(store, about, earlier_name(DATASET_NAME, about.digest))


def manifest_bytes(store: Store, about: DatasetJson) -> bytes | None:
    """The manifest of a state; the newest manifest if it is missing, and None if both are."""
    current = store.read(MANIFEST_NAME)
    if current is not None and hashlib.sha256(current).hexdigest() == about.manifest_sha256:
        return current
    # The newest manifest is that of a later state. If `tb shard --append` was killed, that state
    # may have no dataset.json yet.
    return store.read(earlier_name(MANIFEST_NAME, about.digest)) or current
