"""A polite end: SIGTERM, as clusters send it before they take a machine away."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_CODE = 128 + signal.SIGTERM


@dataclass
class Preemption:
    """`requested`: SIGTERM has come; who looks at it saves and leaves."""

    requested: bool = False


@contextmanager
def preemption() -> Iterator[Preemption]:
    """Inside, SIGTERM only sets `requested`.

    Outside the main thread, where Python allows no signal handlers, nothing is ever requested.
    """
    state = Preemption()
    if threading.current_thread() is not threading.main_thread():
        yield state
        return
    before = signal.signal(signal.SIGTERM, lambda *_: setattr(state, "requested", True))
    try:
        yield state
    finally:
        signal.signal(signal.SIGTERM, before)
