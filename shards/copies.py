"""`Copies`: the local files of one manifest, and what is known to be damaged.

Threads that want the same file wait for one fetch. A damaged copy is fetched again once. If the new
copy is damaged too, the original (the remote file) is damaged. An original that is damaged or gone
is remembered, and it is not fetched again. A network may come back, so its errors are not
remembered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock

from shards.files.remote_store import OriginalError
from shards.format.manifest import Manifest
from shards.format.packet_index import packets_name


@dataclass
class _File:
    """What is known of a remote file.

    Attributes:
        lock: Held while it is fetched.
        second_copy: The inode of the copy that replaced a damaged one.
        problem: Why the remote file cannot be used; "" while no reason is known.
    """

    lock: Lock = field(default_factory=Lock)
    second_copy: int | None = None
    problem: str = ""


class Copies:
    """The shards and packet indices of one manifest, as local files. Threads may share it."""

    def __init__(self, manifest: Manifest) -> None:
        """Fetches nothing yet."""
        self._manifest = manifest
        self._files: dict[str, _File] = {}
        self._lock = Lock()

    def shard(self, name: str, *, is_damaged: bool = False) -> Path:
        """The shard as a local file.

        Args:
            name: The file name of the shard.
            is_damaged: Whether its copy was found to be damaged. The shard is then fetched again,
                unless that was done already.

        Raises:
            OriginalError: The remote file is damaged or gone.
            MachineError: The copy cannot be written.
            InputError: It cannot be fetched for another reason.
        """
        fetch = partial(self._manifest.shard_path, name)
        return self._copy(name, fetch, is_damaged)

    def packets(self, name: str, *, is_damaged: bool = False) -> Path:
        """The packet index of a shard as a local file; its content is not checked.

        Arguments and errors are those of `shard`.
        """
        fetch = partial(self._manifest.packets_path, name)
        return self._copy(packets_name(name), fetch, is_damaged)

    def _copy(self, name: str, fetch: Callable[..., Path], is_damaged: bool) -> Path:
        if not self._manifest.url:
            return fetch()
        with self._lock:
            file = self._files.setdefault(name, _File())
        path = self._manifest.root / name
        with file.lock:
            inode = _inode(path)
            if file.problem and (is_damaged or inode is None):
                raise OriginalError(file.problem)
            again = is_damaged and inode != file.second_copy
            try:
                path = fetch(fetch_again=again)
            except OriginalError as error:
                file.problem = str(error)
                raise
            if again:
                file.second_copy = _inode(path)
        return path


def _inode(path: Path) -> int | None:
    """The number of the file that has this name now; None if there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None
