"""Local copies of remote shards, checked by digest.

One folder per data set, named by the data set's digest: equal content is fetched once, wherever it
lies. A shard is fetched when first needed, by one process at a time, and compared with the SHA-256
in dataset.json before it appears under its name. Nothing is ever removed: that is the user's.
"""

import hashlib
from pathlib import Path
from typing import Any

from shards.errors import InputError
from shards.files.lock import locked
from shards.files.store import RemoteStore, cache_root


def folder_of(digest: str) -> Path:
    """The folder for the data set with this digest; made if missing."""
    folder = cache_root() / "shards" / digest[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; set TIMEBALANCE_CACHE to a folder for copies"
        ) from error
    return folder


def fetch_shard(url: str, folder: Path, name: str, facts: dict[str, Any], anew: bool) -> Path:
    """The local copy of a shard.

    Args:
        url: the remote folder.
        folder: of the copies.
        name: of the shard.
        facts: its num_bytes and sha256.
        anew: fetch it even if there is a copy.

    Raises:
        InputError: it cannot be fetched, or is not what dataset.json says.
    """
    path = folder / name
    if not anew and path.is_file() and path.stat().st_size == facts["num_bytes"]:
        return path
    # Processes that want the same shard wait for the first one.
    with locked(folder / f"{name}.lock", f"{path}: locked", patience_s=float("inf")):
        if not anew and path.is_file() and path.stat().st_size == facts["num_bytes"]:
            return path  # another process was faster
        unfinished = folder / f"{name}.unfinished"
        try:
            RemoteStore(url).get_file(name, unfinished)
            with unfinished.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != facts["sha256"]:
                raise InputError(
                    f"{url}/{name}: not the bytes that were written (sha256 differs); make the"
                    " shards anew"
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path
