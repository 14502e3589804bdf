"""Work for a child process, in a module of its own, so that the child imports little."""

import time
from pathlib import Path

from shards.errors import InputError


def fail_or_wait(path: Path) -> None:
    """Fails if the file is called "bad"; otherwise waits for a minute and then makes it."""
    if path.name == "bad":
        raise InputError("bad luck")
    time.sleep(60)
    path.touch()
