"""How many CPUs there are to use."""

import os


def num_cpus() -> int:
    """CPUs that this process may run on, 1 or more."""
    # macOS and Windows have no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
