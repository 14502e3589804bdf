"""`ShardReader`: reads encoded videos by row number, with one read each, and checks their digest.

Threads may share a reader: positional reads have no file position, and a descriptor closes only
when its last reader is done. Every read is compared with the manifest, which costs about 1 ms per
MB. A damaged shard therefore gives an error that names it, never a wrong picture. If the copy of a
remote shard is damaged, the shard is fetched again, once (`shards.copies`).

Remote shards are copied whole when they are first needed. Without this cache, each read requests
only the bytes that it needs, and only the packet indices are kept.
"""

import hashlib
import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar

from shards.copies import Copies
from shards.errors import InputError
from shards.files.cache_limit import note_use
from shards.files.machine_errors import MachineError, shortages_named
from shards.files.remote_store import RemoteStore
from shards.files.size_limit import MAX_FILE_BYTES
from shards.format.manifest import Manifest
from shards.format.packet_index import PacketsFile
from shards.format.packets import ByteRange, PacketsError, Window

_MAX_OPEN_SHARDS = 128

T = TypeVar("T")


class ShardError(InputError):
    """A video could not be read as the manifest describes it; the message has its key and shard.

    Attributes:
        is_damage: Whether the bytes were read and are wrong. Otherwise they could not be read.
    """

    def __init__(self, message: str, *, is_damage: bool) -> None:
        super().__init__(message)
        self.is_damage = is_damage

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(ShardError, is_damage=self.is_damage), self.args


class ShardReader:
    """Reads videos of one manifest; close it when done, or use it as a context manager."""

    def __init__(self, manifest: Manifest, *, cache: bool = True) -> None:
        """Opens nothing yet.

        Args:
            manifest: Says where the videos lie.
            cache: Whether remote shards are copied to this machine. False is for remote shards
                only.

        Raises:
            InputError: `cache` is False, but the shards are local.
        """
        if not cache and not manifest.url:
            raise InputError(f"cache is False, but {manifest.where} is not remote: leave cache out")
        self._manifest = manifest
        self._uncached = None if cache else RemoteStore(str(manifest.url))
        self._copies = Copies(manifest)
        # These are the manifest's own columns, because Python strings would be many times as large.
        self._sha256 = manifest.table.column("sha256")
        self._codec = manifest.table.column("codec")
        self._packets_sha256 = manifest.table.column("packets_sha256")
        self._open: OrderedDict[int, _Descriptor] = OrderedDict()
        self._packets: OrderedDict[int, PacketsFile] = OrderedDict()
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, index: int) -> bytes:
        """The encoded bytes of the video in row `index`.

        Raises:
            ShardError: The shard is missing, too short or changed, or it is remote and cannot be
                fetched.
            MachineError: This machine lacks space, open files or memory.
        """
        return self._tried_twice(partial(self._read, index))

    def read_window(self, index: int, first: int, last: int) -> Window:
        """The GOPs that hold frames `first` to `last` of a video, checked, with one read.

        Args:
            index: The row of a video that has a packet index (`Manifest.has_packets`).
            first: Number of the first frame.
            last: Number of the last frame, at least `first` and below the video's `num_frames`.

        Raises:
            InputError: There are no such frames, or the video has no packet index.
            ShardError: As for `read`; where a checksum differs, it names the GOP.
            MachineError: As for `read`.
        """
        num_frames = int(self._manifest.num_frames[index])
        if not 0 <= first <= last < num_frames:
            key = self._manifest.video(index).key
            raise InputError(f"{key}: has frames 0 to {num_frames - 1}, not {first} to {last}")
        if not self._manifest.has_packets[index]:
            key = self._manifest.video(index).key
            raise InputError(f"{key}: has no packet index; use read_frames, which reads it whole")
        run = self._tried_twice(partial(self._byte_range, index, first, last))
        return self._tried_twice(partial(self._read_window, index, run))

    def read_frames(self, index: int, first: int, last: int) -> bytes | Window:
        """The bytes that frames `first` to `last` of a video need, and no more.

        This is a window if the video has a packet index, otherwise the whole file. Arguments and
        errors are those of `read_window`.
        """
        if self._manifest.has_packets[index]:
            return self.read_window(index, first, last)
        return self.read(index)

    @property
    def has_copies(self) -> bool:
        """Whether it copies remote shards to this machine."""
        return bool(self._manifest.url) and self._uncached is None

    def keep(self, shard_indices: Iterable[int]) -> None:
        """Counts shards as used now, so that their copies stay longer than others.

        Args:
            shard_indices: Indices into the manifest's `shard_names`.
        """
        for index in shard_indices:
            note_use(self._manifest.root / self._manifest.shard_names[index])

    def fetch(self, shard_index: int, is_needed: Callable[[], bool]) -> None:
        """Copies a remote packet index and its shard to this machine, if they are not here.

        Args:
            shard_index: An index into the manifest's `shard_names`.
            is_needed: Called before each of the two; False ends the call.

        Raises:
            InputError: They cannot be fetched.
        """
        name = self._manifest.shard_names[shard_index]
        for copy in (self._copies.packets, self._copies.shard):
            if is_needed():
                copy(name)

    def _tried_twice(self, read: Callable[[bool], T]) -> T:
        """The result of `read(False)`, or of a second try if it fails and the shards are remote.

        The argument of `read` says whether its file was found to be damaged.
        """
        try:
            return read(False)
        except ShardError as error:
            if not self._manifest.url:
                raise
            is_damaged = error.is_damage
        # A damaged copy is fetched again, and the network may have failed for a moment only.
        return read(is_damaged)

    def _read_window(self, index: int, run: ByteRange, is_damaged: bool) -> Window:
        data = self._bytes(index, run.begin, run.offsets[-1], is_damaged)
        view, base = memoryview(data), run.gop_frames[0]
        begins = [run.offsets[frame - base] for frame in run.gop_frames]
        ends = [*begins[1:], len(data)]
        gops = zip(begins, ends, run.checksums, strict=True)
        for gop, (begin, end, checksum) in enumerate(gops, run.first_gop):
            if zlib.crc32(view[begin:end]) != checksum:
                raise self._error(
                    index, f"GOP {gop} is not the bytes that were written (checksum differs)"
                )
        height, width = self._manifest.heights[index], self._manifest.widths[index]
        return Window(
            codec=self._codec[index].as_py(),
            size=(int(height), int(width)),
            byte_range=run,
            data=data,
        )

    def _byte_range(self, index: int, first: int, last: int, is_damaged: bool) -> ByteRange:
        """Where a window lies, by a packet index that is checked against the manifest."""
        manifest = self._manifest
        shard_index = int(manifest.shard_index[index])
        try:
            return self._packets_file(shard_index, is_damaged).byte_range(
                index - int(manifest.shard_starts[shard_index]),
                first,
                last,
                num_frames=int(manifest.num_frames[index]),
                num_bytes=int(manifest.sizes[index]),
                sha256=self._packets_sha256[index].as_py(),
            )
        except MachineError:  # not the video's fault
            raise
        except OSError as error:
            reason = f"packet index: {error.strerror or error}"
            raise self._error(index, reason, is_damage=False) from error
        except PacketsError as error:
            raise self._error(index, f"the packet index {error}") from error
        except InputError as error:  # it cannot be fetched
            raise self._error(index, str(error), is_damage=False) from error

    def _packets_file(self, shard_index: int, is_damaged: bool) -> PacketsFile:
        with self._lock:
            file = None if is_damaged else _used(self._packets, shard_index)
        if file is not None:
            return file
        # The lock is not held here, because fetching takes long.
        name = self._manifest.shard_names[shard_index]
        file = PacketsFile(self._copies.packets(name, is_damaged=is_damaged))
        with self._lock:
            return _kept(self._packets, shard_index, file, replace=is_damaged)

    def _read(self, index: int, is_damaged: bool) -> bytes:
        data = self._bytes(index, 0, int(self._manifest.sizes[index]), is_damaged)
        if hashlib.sha256(data).hexdigest() != self._sha256[index].as_py():
            raise self._error(index, "the bytes are not those that were written (sha256 differs)")
        return data

    def _bytes(self, index: int, begin: int, size: int, is_damaged: bool) -> bytes:
        """`size` bytes of a video from its byte `begin` on."""
        manifest = self._manifest
        shard_index = int(manifest.shard_index[index])
        offset = int(manifest.offsets[index]) + begin
        # The bytes of a local file are there, but those of a server may never end.
        if self._uncached and size > MAX_FILE_BYTES:
            problem = f"its row says {size} bytes, and without a copy {MAX_FILE_BYTES} may be read"
            raise self._error(index, problem, is_damage=False)
        try:
            if self._uncached:
                data = self._uncached.read_range(manifest.shard_names[shard_index], offset, size)
            else:
                data = self._descriptor(shard_index, is_damaged).read(size, offset)
        except MachineError:  # not the video's fault
            raise
        except OSError as error:
            raise self._error(index, error.strerror or str(error), is_damage=False) from error
        except InputError as error:  # it cannot be fetched
            raise self._error(index, str(error), is_damage=False) from error
        if len(data) < size:
            raise self._error(index, f"the shard ends {size - len(data)} bytes too early")
        return data

    def _error(self, index: int, problem: str, *, is_damage: bool = True) -> ShardError:
        video = self._manifest.video(index)
        folder = self._manifest.root if self.has_copies else self._manifest.where
        message = f"{video.key} in {folder}/{video.shard}: {problem}"
        return ShardError(message, is_damage=is_damage)

    def close(self) -> None:
        """Closes the shards; a later read opens them again."""
        self._copies = Copies(self._manifest)  # forgets which files were damaged
        with self._lock:
            self._open.clear()
            self._packets.clear()

    def _descriptor(self, shard_index: int, is_damaged: bool) -> "_Descriptor":
        with self._lock:
            descriptor = None if is_damaged else _used(self._open, shard_index)
        if descriptor is not None:
            return descriptor
        # The lock is not held here, because fetching a remote shard takes long.
        name = self._manifest.shard_names[shard_index]
        descriptor = _Descriptor(self._copies.shard(name, is_damaged=is_damaged))
        with self._lock:
            self._close_removed_copies()
            return _kept(self._open, shard_index, descriptor, replace=is_damaged)

    def _close_removed_copies(self) -> None:
        """Frees the space of copies that `shards.files.cache_limit` has removed."""
        if self._manifest.url:
            for index in [index for index, one in self._open.items() if one.is_removed()]:
                del self._open[index]


def _used(kept: OrderedDict[int, T], shard_index: int) -> T | None:
    """What is kept for a shard, marked as used last; None if nothing is kept."""
    if shard_index in kept:
        kept.move_to_end(shard_index)
    return kept.get(shard_index)


def _kept(kept: OrderedDict[int, T], shard_index: int, new: T, *, replace: bool) -> T:
    """Keeps `new` for a shard, unless something is kept already and not to be replaced.

    Returns:
        What is kept for the shard now. Another thread may have been first.
    """
    if replace or shard_index not in kept:
        kept[shard_index] = new
    kept.move_to_end(shard_index)
    chosen = kept[shard_index]
    while len(kept) > _MAX_OPEN_SHARDS:
        kept.popitem(last=False)
    return chosen


class _Descriptor:
    """An open file; it closes when neither the reader nor a thread refers to it any more."""

    def __init__(self, path: Path) -> None:
        self._fd = -1
        with shortages_named(path):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def is_removed(self) -> bool:
        """Whether the file has no name any more."""
        return os.fstat(self._fd).st_nlink == 0

    def read(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        # A stranger's manifest may claim any size, and Python takes the memory before it reads.
        size = min(size, max(0, os.fstat(self._fd).st_size - offset))
        chunks = []
        while size > 0 and (chunk := os.pread(self._fd, size, offset)):
            chunks.append(chunk)
            size -= len(chunk)
            offset += len(chunk)
        return b"".join(chunks)
