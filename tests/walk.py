"""The way of a video or a sample through the files of `shards` and `loaders`."""

import dis
import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
# Where a generator stands after it has handed over a value: at the yield, or behind it (Python
# 3.13).
_SUSPENDED = {dis.opmap["YIELD_VALUE"], dis.opmap["RESUME"]}


class Walk:
    """Notes each file when it is entered and no function of it is active.

    Attributes:
        entered: Their names in that order, over all threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.begin()

    def begin(self) -> None:
        """Forgets what was entered; no function may be active."""
        self.entered: list[str] = []
        self._active: Counter[str] = Counter()
        self._suspended: set[FrameType] = set()

    @property
    def returns(self) -> list[tuple[int, str]]:
        """(index in `entered`, name) of each file that was entered before."""
        return [(i, name) for i, name in enumerate(self.entered) if name in self.entered[:i]]

    def note(self, frame: FrameType, event: str, _: object) -> None:
        """Is what `sys.setprofile` takes."""
        path = frame.f_code.co_filename
        # Code such as `any(... for ...)` may leave a generator before its end, and its file would
        # count as active for ever. The function that holds the generator is active anyway.
        if frame.f_code.co_name == "<genexpr>":
            return
        if not path.startswith((str(ROOT / "loaders"), str(ROOT / "shards"))):
            return
        name = Path(path).relative_to(ROOT).as_posix()
        with self._lock:
            if event == "call" and frame not in self._suspended:
                if not self._active[name]:
                    self.entered.append(name)
                self._active[name] += 1
            elif event == "return" and not self._yields(frame):
                self._suspended.discard(frame)
                self._active[name] -= 1

    def _yields(self, frame: FrameType) -> bool:
        """Whether a generator hands over a value: it stays active until it ends."""
        if frame.f_code.co_code[frame.f_lasti] not in _SUSPENDED:
            return False
        self._suspended.add(frame)
        return True


@contextmanager
def walking() -> Iterator[Walk]:
    """Inside, the walk follows this thread and those that start.

    Garbage is collected before it, because a generator that somebody has left would be closed on
    the way, and would seem to be entered.
    """
    gc.collect()
    gc.disable()
    walk = Walk()
    threading.setprofile(walk.note)
    sys.setprofile(walk.note)
    try:
        yield walk
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.enable()
