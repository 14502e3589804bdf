"""Counts how often a loader's thread releases the interpreter for a video, and in which code.

Python runs one thread of a process at a time. Code that calls long C code releases the interpreter
(`PyEval_SaveThread`) and asks for it again afterwards. At each such turn it may have to wait for
another thread. gdb counts the calls and names the function that makes them, so it must be
installed. The figures do not depend on other work on the machine.

    python -m bench.interpreter_turns --shards DIR [--views student] [--size 112] [--videos 16]

The videos go through the engine `fused` in one thread, as in the loader process. They do so twice,
and only the second time counts. Turns that Python forces, to switch between threads, do not count.
"""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import islice
from pathlib import Path

from bench.arguments import count, run_command
from loaders.engines.cpu import open_cpu_engine
from loaders.plan.order import Order
from loaders.plan.planner import Planner
from loaders.plan.stage_views import view_spec
from loaders.subset import Subset
from shards.errors import InputError
from shards.format.manifest import read_manifest
from shards.reader import ShardReader

# The program says with a signal where counting begins and where it ends. Symbols are read only
# then, because gdb would otherwise read those of each library that is loaded.
_GDB_SCRIPT = """
import gdb, os

class Turn(gdb.Breakpoint):
    def stop(self):
        caller = gdb.newest_frame().older()
        library = os.path.basename(gdb.solib_name(caller.pc()) or "compiled")
        print("TURN", library.partition(".")[0], caller.name() or "kernel", sep="\\t")
        return False

gdb.execute("set confirm off")
gdb.execute("set auto-solib-add off")
gdb.execute("handle SIGUSR1 stop nopass")
gdb.execute("run")
gdb.execute("sharedlibrary")
turn = Turn("PyEval_SaveThread")
gdb.execute("continue")
turn.delete()
gdb.execute("continue")
"""


def main() -> None:
    """Prints the turns per video."""
    options = _parse()
    # This comes first, so that the error of a wrong input is not in the middle of gdb's output.
    planner = _planner(options)
    if options.counted:
        _work(planner, options.videos)
        return
    turns = count_turns(options.shards, options.views, options.size, options.videos)
    print(f"{options.views} {options.size} px: {turns.total() / options.videos:.1f} turns a video")
    for who, number in turns.most_common():
        print(f"{number / options.videos:7.1f}  {who}")


def count_turns(shards: Path, views: str, size_px: int, num_videos: int) -> Counter[str]:
    """The number of turns for each function that makes them, as "library function".

    Args:
        shards: A folder made by `tb shard`.
        views: The name of the views.
        size_px: The size of the views, pixels.
        num_videos: How many videos are counted.

    Raises:
        InputError: gdb is not installed, or the counted program failed.
    """
    gdb = shutil.which("gdb")
    if gdb is None:
        raise InputError("gdb is not installed, and it counts the turns: install it")
    program = [sys.executable, "-m", "bench.interpreter_turns", "--counted"]
    program += ["--shards", str(shards), "--views", views]
    program += ["--size", str(size_px), "--videos", str(num_videos)]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(_GDB_SCRIPT)
        script.flush()
        done = subprocess.run(
            [gdb, "-batch", "-nx", "-x", script.name, "--args", *program],
            capture_output=True,
            text=True,
            check=False,
        )
    if "exited normally" not in done.stdout:
        raise InputError(f"the counted program failed: {(done.stdout + done.stderr)[-2000:]}")
    turns = (line.split("\t") for line in done.stdout.splitlines() if line.startswith("TURN\t"))
    return Counter(f"{library} {_short(function)}" for _, library, function in turns)


def _planner(options: argparse.Namespace) -> Planner:
    manifest = read_manifest(options.shards)
    return Planner(
        manifest=manifest,
        rows=Subset().rows(manifest),
        spec=view_spec(options.views, options.size),
        batch_size=1,
        order=Order.GLOBAL,
        seed=0,
        rank=0,
        world_size=1,
    )


def _work(planner: Planner, num_videos: int) -> None:
    """What is counted: the same videos twice, the second time between two signals."""
    engine = open_cpu_engine("fused", planner.spec, dtype="float32", batch_size=1, num_workers=1)
    with ShardReader(planner.manifest) as reader:
        plans = list(islice(planner.stream(0), num_videos))
        list(engine.run(reader, iter(plans)))
        signal.raise_signal(signal.SIGUSR1)
        list(engine.run(reader, iter(plans)))
        signal.raise_signal(signal.SIGUSR1)
    engine.close()


def _short(function: str) -> str:
    """A function's name without Cython's and Numba's additions, and without its types."""
    name = re.sub(r"__pyx_[a-z]+_[0-9]\w+?_[0-9]+(?=[A-Z_])", "", function)
    name = re.sub(r"\[abi:.*|[(<].*", "", name)
    return name.rpartition("::")[2]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--views", default="student")
    parser.add_argument("--size", type=count, default=112, help="pixels")
    parser.add_argument("--videos", type=count, default=16)
    parser.add_argument("--counted", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
