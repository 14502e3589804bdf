"""Remembers the driver's answers about its video decoders, because DALI asks for every video.

DALI calls `cuvidGetDecoderCaps` for each video, and the driver takes milliseconds for the answer,
one caller at a time. So DALI cannot decode more than about a hundred videos a second, however many
decoders and threads there are (docs/dali.md has the measurement). The answers never change.

A small library remembers them. It has the name by which DALI opens the driver's library. If a
process has loaded a library of that name, Linux gives DALI that one. The small library needs the
driver's library, which has all other functions. It is compiled once, by a C compiler, which Triton
needs too.
"""

import ctypes
import logging
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from loaders.engines.dali.nvdec import CAPS_BYTES, KEY_BYTES
from shards.errors import printable
from shards.files.addresses import cache_root
from shards.files.publish import publish_file, unfinished_file

_logger = logging.getLogger(__name__)
_SOURCE = Path(__file__).with_suffix(".c")
# DALI tries the first name. If no file has it, DALI tries the second, which is the driver's own.
_NAME, _DRIVERS_NAME = "libnvcuvid.so", "libnvcuvid.so.1"
_COMPILERS = ("cc", "gcc", "clang")
_SIZES = {"KEY_BYTES": KEY_BYTES, "CAPS_BYTES": CAPS_BYTES}


class CapsCache:
    """The library in this process.

    Args:
        path: The compiled library.

    Raises:
        OSError: It cannot be loaded, e.g. because the driver's library is missing.
    """

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    @property
    def num_questions(self) -> int:
        """How often this process has asked it."""
        return self._counter("caps_cache_num_questions").value

    @property
    def num_asked(self) -> int:
        """How often it has asked the driver."""
        return self._counter("caps_cache_num_asked").value

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within the block, the driver is asked each time, as without this library."""
        switch = ctypes.c_int.in_dll(self._library, "caps_cache_is_on")
        switch.value = 0
        try:
            yield
        finally:
            switch.value = 1

    def _counter(self, name: str) -> ctypes.c_long:
        return ctypes.c_long.in_dll(self._library, name)


@lru_cache
def caps_cache() -> CapsCache | None:
    """The library, once it stands before the driver's in this process.

    It has no effect if something else in this process has opened the driver's library before, under
    the name that DALI uses. If it cannot be made or loaded, there is none, and a warning says why.
    """
    try:
        path = _path(cache_root() / "nvdec")
        if not path.exists():
            _compile(path)
        return CapsCache(path)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        _logger.warning(
            "DALI asks the driver about its decoders for every video, which limits it to about 100 "
            "videos/s. The library that prevents this cannot be used: %s",
            printable(reason)[:500],
        )
        return None


def _path(folder: Path) -> Path:
    """The library in a folder, which machines of several kinds may share."""
    made_of = (_SOURCE.read_bytes(), _SIZES, platform.machine(), platform.libc_ver())
    return folder / f"caps-{sha256(repr(made_of).encode()).hexdigest()[:16]}.so"


def _compile(path: Path) -> None:
    named = shlex.split(os.environ.get("CC", ""))  # it may have options
    compiler = named or [name for name in _COMPILERS if shutil.which(name)][:1]
    if not compiler:
        raise OSError(f"there is no C compiler ({', '.join(_COMPILERS)}); install one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, unfinished_file(path) as unfinished:
        # The linker needs the name of the driver's library and nothing else, so this one is empty.
        empty = Path(scratch) / _DRIVERS_NAME
        shared = [*compiler, "-shared", "-fPIC", "-O2", "-pthread"]
        _run([*shared, f"-Wl,-soname,{_DRIVERS_NAME}", "-o", str(empty), "-xc", "/dev/null"])
        _run(
            [
                *shared,
                *(f"-D{name}={value}" for name, value in _SIZES.items()),
                *(f"-Wl,-soname,{_NAME}", "-o", str(unfinished), str(_SOURCE)),
                *("-Wl,--no-as-needed", str(empty), "-ldl"),
            ]
        )
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        publish_file(unfinished, path)


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
