"""A polite end: SIGTERM, as clusters send it before they take a machine away."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

EXIT_CODE = 128 + signal.SIGTERM


class Preemption:
    """While entered, SIGTERM only sets `requested`; the loop that looks at it saves and leaves.

    Outside the main thread, where Python allows no signal handlers, nothing is ever requested.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._request)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
