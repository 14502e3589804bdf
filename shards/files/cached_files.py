"""Local copies of remote shards, checked against their SHA-256.

The transfer itself, from S3 or another place, is in `shards.files.remote_store`.

There is one folder for each data set, and its name follows from the content of the files. So equal
data sets share their copies, even if they have different URLs. A shard is fetched when it is first
needed, by one process at a time. Copies are removed only if the user sets a limit
(`shards.files.cache_limit`). A killed process leaves an unfinished file in the folder, which a
later fetch removes (`shards.files.publish`).
"""

import hashlib
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from shards.files.addresses import cache_root
from shards.files.cache_limit import cache_limit_bytes, note_use, room_for
from shards.files.lock import locked
from shards.files.machine_errors import machine_error
from shards.files.publish import unfinished_file
from shards.files.remote_store import OriginalError, RemoteStore


def copies_folder(name: str) -> Path:
    """The folder of that name for copies of one data set; created if missing.

    Raises:
        MachineError: The folder cannot be created.
        InputError: The limit of the cache is not a positive number.
    """
    cache_limit_bytes()  # refuses a bad limit now, not in the middle of an epoch
    folder = cache_root() / "shards" / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise machine_error(folder, error) from error
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
        again: Fetch it even if there is a copy now.

    Raises:
        OriginalError: The remote file is gone, or has another size or digest.
        MachineError: The copy cannot be written.
        InputError: It cannot be fetched for another reason.
    """

    def check(unfinished: Path) -> None:
        # A copy of another size would be fetched again and again.
        if (size := unfinished.stat().st_size) != num_bytes:
            raise OriginalError(
                f"{url}/{name}: has {size} bytes, not {num_bytes} as the set says; run `tb shard`"
                " again with another --out"
            )
        with unfinished.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise OriginalError(
                f"{url}/{name}: not the bytes that were written (sha256 differs); run"
                " `tb shard` again with another --out"
            )

    path = _fetch(
        url,
        folder,
        name,
        again=again,
        num_bytes=num_bytes,
        max_bytes=num_bytes,
        check=check,
    )
    note_use(path)
    return path


def fetch_file(url: str, folder: Path, name: str, *, max_bytes: int, again: bool = False) -> Path:
    """The local copy of a file whose content is checked when it is used.

    Args:
        url: The remote folder.
        folder: The folder with the copies.
        name: The file name.
        max_bytes: How large the file may be.
        again: Fetch it even if there is a copy now.

    Raises:
        OriginalError: There is no such remote file, or it is larger.
        MachineError: The copy cannot be written.
        InputError: It cannot be fetched for another reason.
    """
    return _fetch(
        url,
        folder,
        name,
        again=again,
        num_bytes=None,
        max_bytes=max_bytes,
        check=lambda _: None,
    )


def _fetch(
    url: str,
    folder: Path,
    name: str,
    *,
    again: bool,
    num_bytes: int | None,
    max_bytes: int,
    check: Callable[[Path], None],
) -> Path:
    path = folder / name

    def found() -> os.stat_result | None:
        try:
            return path.stat()
        except FileNotFoundError:
            return None

    def is_here() -> bool:
        now = found()
        if now is None or (replaced is not None and now.st_ino == replaced.st_ino):
            return False
        return num_bytes is None or now.st_size == num_bytes

    try:
        replaced = found() if again else None
        if is_here():
            return path
        # Processes that want the same file wait for the first one.
        with locked(folder / f"{name}.lock", f"{path}: locked", patience_s=float("inf")):
            if is_here():
                return path  # another process was faster
            if not again:
                path.unlink(missing_ok=True)  # a copy of another size is of no use
            room = nullcontext() if num_bytes is None else room_for(path, num_bytes)
            with room, unfinished_file(path) as unfinished:
                RemoteStore(url).get_file(name, unfinished, max_bytes)
                check(unfinished)
                note_use(unfinished)
                unfinished.replace(path)
    except OSError as error:
        raise machine_error(folder, error) from error
    return path
