"""Local copies of remote shards, checked against their SHA-256.

There is one folder for each data set, named by the digest of its content. So equal data sets share
their copies, wherever they lie. A shard is fetched when it is first needed, by one process at a
time. Copies are removed only where the user sets a limit (`shards.files.cache_limit`).
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from shards.errors import InputError
from shards.files.addresses import cache_root
from shards.files.cache_limit import cache_limit_bytes, make_room, note_use
from shards.files.lock import locked
from shards.files.remote_store import RemoteStore


def copies_folder(digest: str) -> Path:
    """The folder for copies of the data set with this digest; created if missing.

    Raises:
        InputError: The folder cannot be created, or the cache has a senseless limit.
    """
    cache_limit_bytes()  # refused here, not in the middle of an epoch
    folder = cache_root() / "shards" / digest[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder}: {error.strerror}; set TIMEBALANCE_CACHE to a folder for copies"
        ) from error
    return folder


def fetch_shard(
    url: str, folder: Path, name: str, *, num_bytes: int, sha256: str, again: bool = False
) -> Path:
    """The local copy of a shard.

    Args:
        url: The remote folder.
        folder: The folder with the copies.
        name: The file name of the shard.
        num_bytes: The size of the shard.
        sha256: The hex digest of the shard.
        again: Fetch it even if there is a copy.

    Raises:
        InputError: It cannot be fetched, or its bytes have another digest.
    """

    def check(unfinished: Path) -> None:
        with unfinished.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise InputError(
                f"{url}/{name}: not the bytes that were written (sha256 differs); run"
                " `tb shard` again with another --out"
            )

    path = _fetch(url, folder, name, again=again, num_bytes=num_bytes, check=check)
    note_use(path)
    return path


def fetch_file(url: str, folder: Path, name: str, *, again: bool = False) -> Path:
    """The local copy of a file whose content is checked when it is used.

    Args:
        url: The remote folder.
        folder: The folder with the copies.
        name: The file name.
        again: Fetch it even if there is a copy.

    Raises:
        InputError: It cannot be fetched.
    """
    return _fetch(url, folder, name, again=again, num_bytes=None, check=lambda _: None)


def _fetch(
    url: str,
    folder: Path,
    name: str,
    *,
    again: bool,
    num_bytes: int | None,
    check: Callable[[Path], None],
) -> Path:
    path = folder / name

    def is_here() -> bool:
        if again or not path.is_file():
            return False
        return num_bytes is None or path.stat().st_size == num_bytes

    if is_here():
        return path
    # Processes that want the same file wait for the first one.
    with locked(folder / f"{name}.lock", f"{path}: locked", patience_s=float("inf")):
        if is_here():
            return path  # another process was faster
        unfinished = folder / f"{name}.unfinished"
        if num_bytes is not None:
            make_room(num_bytes)
        try:
            RemoteStore(url).get_file(name, unfinished)
            check(unfinished)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path
