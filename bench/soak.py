"""Many epochs with every engine: at the end a loader holds no more than after its second epoch.

Each runs twice: with its threads in this process, and in the loader process (for dali, the threads
that read).

    python -m bench.soak [--epochs 100] [--shards DIR] [--engines fused dali ...] [--json FILE]

At the end there must be as many processes as after the second epoch. Each may have no more open
descriptors, and at most one more thread. Its shared memory may have grown by 1 MB, its resident
memory by 64 MB, and the used memory of the GPU by 64 MB. After the loader is closed, the
same rules compare with an earlier loader of the same kind that is closed too. Without --shards,
eight made-up videos are stored as VP9 and as MJPEG, which DALI decodes on a CPU; with --device cuda
as H.264. The files of the first set are also stored with the recipe `copy`: without a packet index,
they are read whole. The JSON file has what each process holds after each epoch.
"""

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from bench.arguments import count, new_file, run_command, write_report
from loaders import open_loader
from loaders.engines.engine import EngineName
from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tb.demo.videos import draw_video, encode
from tb.demo.worlds import OBJECTS

_NUM_VIDEOS, _BATCH_SIZE, _SIZE_PX, _NUM_WORKERS = 8, 4, 64, 2
# Device -> the recipes that DALI decodes there. NVDEC takes VP9 only from 128 pixels on.
_RECIPES = {"cpu": ("vp9", "mjpeg"), "cuda": ("h264",)}
_TOLERANCES = {
    "descriptors": 0,
    # A library may start one more thread of its pool at any time.
    "threads": 1,
    # A ring's page is resident once a batch has reached it, and DALI's batches differ in size.
    "shared_bytes": 1_000_000,
    # Allocators keep pages. With DALI they have all that they need after about five epochs, 40 MB
    # more than after two.
    "memory_bytes": 64_000_000,
    "gpu_bytes": 64_000_000,
}
_WARM_UP_EPOCHS = 2
# The value of `in_process` -> the name in the table.
_PLACES = {True: "threads", False: "process"}


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """What one process holds at one moment.

    Attributes:
        descriptors: Open files, pipes and sockets.
        threads: Threads, without one of Arrow's (see `_num_threads`).
        shared_bytes: Resident shared memory.
        memory_bytes: Resident memory, the shared one included.
        gpu_bytes: Used memory of the GPU, that of other processes included; 0 without a GPU.
    """

    descriptors: int
    threads: int
    shared_bytes: int
    memory_bytes: int
    gpu_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Holdings":
        """Reads them from /proc."""
        memory = _memory_kb(pid)
        return cls(
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            threads=_num_threads(pid),
            shared_bytes=1024 * memory["RssShmem"],
            memory_bytes=1024 * memory["VmRSS"],
            gpu_bytes=_used_gpu_bytes(),
        )

    def changes_since(self, before: "Holdings") -> list[str]:
        """A text for each number that has grown by more than its tolerance."""
        then, now = asdict(before), asdict(self)
        return [
            f"{name} {then[name]} -> {now[name]}"
            for name, tolerance in _TOLERANCES.items()
            if now[name] - then[name] > tolerance
        ]


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """What the processes of a loader hold, the training first.

    Attributes:
        epochs: After each epoch.
        problems: A text for each number that has grown too much.
    """

    epochs: list[list[Holdings]]
    problems: list[str]

    def columns(self) -> list[dict[str, list[int]]]:
        """For each process, its numbers after each epoch."""
        return [
            {name: [asdict(held)[name] for held in process] for name in _TOLERANCES}
            for process in zip(*self.epochs, strict=True)
        ]


def _used_gpu_bytes() -> int:
    if not torch.cuda.is_initialized():
        return 0
    free, total = torch.cuda.mem_get_info()
    return total - free


def _held_now() -> list[Holdings]:
    """What this process and its descendants hold, this process first."""
    gc.collect()
    return [Holdings.of(pid) for pid in _descendants(os.getpid())]


def _changes(before: Sequence[Holdings], after: Sequence[Holdings]) -> list[str]:
    """A text for each number that has grown too much in a process, and for their number."""
    changes = [
        f"{name}: {text}"
        for name, one, other in zip(_process_names(), before, after, strict=False)
        for text in other.changes_since(one)
    ]
    if len(after) != len(before):
        changes.append(f"processes {len(before)} -> {len(after)}")
    return changes


def _process_names() -> Iterator[str]:
    return chain(["training"], repeat("loader process"))


def _descendants(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            for child in (task / "children").read_text().split():
                yield from _descendants(int(child))


def _num_threads(pid: int) -> int:
    """Threads, without the one that Arrow's allocator starts at an unpredictable time."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            names.append((task / "comm").read_text().strip())
    return sum(name != "jemalloc_bg_thd" for name in names)


def _memory_kb(pid: int) -> dict[str, int]:
    lines = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return {name: int(lines[name].split()[0]) for name in ("RssShmem", "VmRSS")}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line for each process, engine and set; exits with 1 if one holds more at the end."""
    options = _parse(arguments)
    torch.set_num_threads(1)  # torch may start its threads at any time
    problems: list[str] = []
    rows: list[dict[str, object]] = []
    with TemporaryDirectory() as folder:
        sets = [options.shards] if options.shards else made_sets(Path(folder), options.device)
        print(
            f"{'set':8}{'engine':11}{'in':9}{'process':16}"
            f"{'files':>6}{'threads':>8}{'shared MB':>10}{'RSS MB':>18}"
        )
        for shards in sets:
            for engine in options.engines:
                for in_process, place in _PLACES.items():
                    found = soaked(shards, engine, options.device, in_process, options.epochs)
                    _print(f"{shards.name:8}{engine:11}{place:9}", found.epochs)
                    names = {"set": shards.name, "engine": engine, "in": place}
                    rows.append({**names, "processes": found.columns()})
                    problems += found.problems
    write_report(options.json, rows)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(bool(problems))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=count, default=100, help="At least 3.")
    parser.add_argument("--shards", type=Path, help="A folder made by `tb shard`.")
    parser.add_argument("--device", default="cpu", choices=_RECIPES)
    parser.add_argument("--json", type=new_file)
    known = [str(name) for name in EngineName if name != "dali" or find_spec("nvidia.dali")]
    parser.add_argument("--engines", nargs="+", default=known, choices=known)
    options = parser.parse_args(arguments)
    if options.epochs <= _WARM_UP_EPOCHS:
        parser.error(f"--epochs {options.epochs}: give at least {_WARM_UP_EPOCHS + 1}")
    return options


def made_sets(folder: Path, device: str) -> list[Path]:
    """Stores eight made-up videos in each way; returns the folders of the sets."""
    (folder / "videos" / "made").mkdir(parents=True)
    for index, name in enumerate(OBJECTS.classes[:_NUM_VIDEOS]):
        frames = draw_video(name, np.random.default_rng(index))
        encode(folder / "videos" / "made" / f"{name}.mp4", frames)
    sets = [folder / codec for codec in _RECIPES[device]]
    for shards in sets:
        ingest(from_folder(folder / "videos"), shards, recipe=Recipe(codec=shards.name))
    (folder / "files" / "made").mkdir(parents=True)
    stored = read_manifest(sets[0])
    with ShardReader(stored) as reader:
        for row in range(len(stored)):
            (folder / "files" / "made" / f"{row}.mp4").write_bytes(reader.read(row))
    ingest(from_folder(folder / "files"), folder / "copy", recipe=Recipe(codec="copy"))
    return [*sets, folder / "copy"]


def soaked(shards: Path, engine: str, device: str, in_process: bool, num_epochs: int) -> Soaked:
    """Serves so many epochs, after two of an earlier loader that is closed."""
    _, before = _held(shards, engine, device, in_process, _WARM_UP_EPOCHS)
    held, closed = _held(shards, engine, device, in_process, num_epochs)
    name = f"{shards.name}, {engine}, {_PLACES[in_process]}"
    grown = _changes(held[_WARM_UP_EPOCHS - 1], held[-1])
    return Soaked(
        epochs=held,
        problems=[
            *(f"{name}: epoch {_WARM_UP_EPOCHS} -> {num_epochs}: {text}" for text in grown),
            *(f"{name}: after closing: {text}" for text in _changes(before, closed)),
        ],
    )


def _print(names: str, epochs: Sequence[Sequence[Holdings]]) -> None:
    """A line for each process."""
    early, late = epochs[_WARM_UP_EPOCHS - 1], epochs[-1]
    for process, one, other in zip(_process_names(), early, late, strict=False):
        print(
            f"{names}{process:16}{other.descriptors:6}{other.threads:8}"
            f"{other.shared_bytes / 1e6:10.1f}"
            f"{one.memory_bytes / 1e6:9.1f} -> {other.memory_bytes / 1e6:.1f}",
            flush=True,
        )


def _held(
    shards: Path, engine: str, device: str, in_process: bool, num_epochs: int
) -> tuple[list[list[Holdings]], list[Holdings]]:
    """What is held after each epoch of a new loader, and after it is closed."""
    held = []
    with open_loader(
        shards,
        "student",
        size_px=_SIZE_PX,
        batch_size=_BATCH_SIZE,
        device=device,
        engine=engine,
        num_workers=_NUM_WORKERS,
        in_process=in_process,
    ) as loader:
        for _ in range(num_epochs):
            for _batch in loader:
                pass
            del _batch  # its memory is used again
            held.append(_held_now())
    return held, _held_now()


if __name__ == "__main__":
    run_command(main)
