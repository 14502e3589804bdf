"""How long it takes until a training notices that its loader process is dead.

    python -m bench.loader_death --shards DIR [--kills 20]

A program takes batches without pause, and the loader process gets SIGKILL. The delay runs from the
signal to the error.
"""

import argparse
import os
import signal
import time
from pathlib import Path
from statistics import median

from bench.arguments import count, run_command
from loaders import LoaderError, open_loader


def main() -> None:
    """Prints the delays."""
    options = _parse()
    delays_ms = sorted(1000 * delay_s(options.shards) for _ in range(options.kills))
    print(
        f"{options.kills} kills: the error came after {median(delays_ms):.0f} ms"
        f" (median; {delays_ms[0]:.0f} to {delays_ms[-1]:.0f})"
    )


def delay_s(shards: Path) -> float:
    """Seconds from the death of a new loader process to the error in this process."""
    with open_loader(
        shards, "student", size_px=112, engine="fused", device="cpu", in_process=False
    ) as loader:
        batches = loader.stream()
        next(batches)
        process = loader.producer.process
        assert process is not None
        began_s = time.perf_counter()
        os.kill(process.pid, signal.SIGKILL)
        try:
            for batch in batches:
                del batch
        except LoaderError:
            return time.perf_counter() - began_s
    raise AssertionError("a stream has no end")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--kills", type=count, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
