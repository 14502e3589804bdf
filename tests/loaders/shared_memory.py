"""What is in /dev/shm, for tests that look for what a loader leaves behind."""

import os


def shared_memory() -> set[str]:
    """The names of all files but the semaphores of Python's multiprocessing.

    A loader has none of those, and other tests make and remove them at the same time.
    """
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.mp-")}
