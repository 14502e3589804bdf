"""SIGTERM, which clusters send before they take a machine away, as a request to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EXIT_CODE = 128 + signal.SIGTERM


@dataclass
class Preemption:
    """Whether SIGTERM has come.

    Attributes:
        requested: True after SIGTERM; the loop then saves and ends the process.
    """

    requested: bool = False


@contextmanager
def preemption() -> Iterator[Preemption]:
    """Inside, SIGTERM only sets `requested`.

    Outside the main thread, where Python allows no signal handlers, it is never set.
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
