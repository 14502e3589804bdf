"""A limit to the space that copies of remote shards take: $TIMEBALANCE_CACHE_GB, none by default.

The copies that were opened longest ago are removed first. A program that has such a copy open can
go on reading it. It closes the copy when it opens its next shard. The space is free after that. A
process counts the full size of each shard that it is fetching. It does not count the shards that
other processes are fetching.
"""

import contextlib
import math
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Lock

from shards.errors import InputError
from shards.files.addresses import cache_root

_VARIABLE = "TIMEBALANCE_CACHE_GB"
_SHARDS = "shards/*/*.tar"
# The shards that this process is fetching, and their bytes.
_reserved: dict[Path, int] = {}
_reserving = Lock()


def note_use(copy: Path) -> None:
    """Remembers that a copy was used now."""
    now_ns = time.time_ns()  # finer than the clock of most file systems
    # Another process may have removed it just now, or it belongs to another user.
    with contextlib.suppress(OSError):
        os.utime(copy, ns=(now_ns, now_ns))


@contextlib.contextmanager
def room_for(copy: Path, num_bytes: int) -> Iterator[None]:
    """Makes room for a shard that is fetched in this block; see `make_room`."""
    try:
        with _reserving:
            _reserved[copy] = num_bytes
            make_room(sum(_reserved.values()), besides=_reserved.keys())
        yield
    finally:
        with _reserving:
            _reserved.pop(copy, None)


def make_room(num_bytes: int, besides: Collection[Path] = ()) -> None:
    """Removes copies of shards until `num_bytes` more fit into the limit, or none is left.

    Args:
        num_bytes: What is to fit.
        besides: Copies that are not counted and not removed.

    Raises:
        InputError: The limit is not a positive number.
    """
    limit = cache_limit_bytes()
    if limit is None:
        return
    copies = []
    for path in cache_root().glob(_SHARDS):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path not in besides:
                copies.append((status.st_mtime_ns, path, status.st_size))
    excess = sum(size for _, _, size in copies) + num_bytes - limit
    for _, path, size in sorted(copies):
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= size


def cache_limit_bytes() -> float | None:
    """The limit; None if there is none.

    Raises:
        InputError: The limit is not a positive number.
    """
    text = os.environ.get(_VARIABLE)
    if not text:
        return None
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = math.nan
    if not 0 < gigabytes < math.inf:
        raise InputError(f"{_VARIABLE} must be a positive number of gigabytes, not {text!r}")
    return gigabytes * 1e9
