"""What a loader costs the training beside it: threads in the same process, or a loader process.

Three trainers, each alone and beside a loader in either place: "launches" only makes small
operations, so it feels every moment in which another thread has the interpreter; "compiled" makes
steps of a small compiled network; "step" (on a GPU only) makes steps of the student's backbone. A
thread takes the loader's batches as fast as they come and drops them. Each round measures all
combinations once, so other work on the machine affects all equally. Ratios are taken within a
round, and figures are medians of the rounds. The trainer also runs beside another program that has
the same loader. The two programs share only cores and caches. So what the trainer loses there, it
loses to a loader in any place.

    python -m bench.beside_training --shards DIR [--views student] [--size 112] [--batch-size 8]
        [--engine fused] [--workers 1] [--trainers launches compiled step] [--seconds 3]
        [--rounds 5] [--device cpu] [--json FILE]

With --engine dali, only the threads that read change their place; DALI stays in this process.

Columns: launches or steps per second; their share of the rate of the trainer alone; videos/s; their
share of the rate of the same loader beside an idle trainer; the loader's CPU time per video,
without the trainer's. Below that: seconds until `open_loader` has returned, seconds from its call
to the first batch, and each process's memory.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event as ProcessEvent
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import torch
from torch import nn

from bench.arguments import count, duration_s, new_file, run_command, write_report
from loaders import Loader, open_loader
from loaders.devices import usable_device
from loaders.plan.stage_views import NAMED_VIEWS
from shards.errors import InputError
from shards.format.manifest import read_manifest
from tb.networks.backbones import build_backbone

PLACES = {"threads here": True, "loader process": False}
OTHER = "another program"
TRAINERS = ("launches", "compiled", "step")
_CLOCK_HZ = os.sysconf("SC_CLK_TCK")
Launch = Callable[[], object]


@dataclass
class Rounds:
    """The rounds of one trainer beside a loader in one place.

    If the loader is in another program, only the trainer's share and videos/s are known.
    """

    trainer_alone_per_s: list[float] = field(default_factory=list)
    trainer_per_s: list[float] = field(default_factory=list)
    trainer_kept: list[float] = field(default_factory=list)
    videos_alone_per_s: list[float] = field(default_factory=list)
    loader_kept: list[float] = field(default_factory=list)
    videos_per_s: list[float] = field(default_factory=list)
    cpu_ms_per_video: list[float] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """The medians, and what each round found."""
        measured = {name: values for name, values in vars(self).items() if values}
        medians = {name: median(values) for name, values in measured.items()}
        return {**medians, "rounds": measured}


class Drain:
    """Takes a loader's batches in a thread, and counts their videos."""

    def __init__(self, loader: Loader) -> None:
        self.num_videos, self._end = 0, Event()
        self._thread = Thread(target=self._run, args=(loader,))
        self._warm = Event()
        self._thread.start()
        self._warm.wait()

    def _run(self, loader: Loader) -> None:
        try:
            with closing(loader.stream()) as batches:
                for number, batch in enumerate(batches):
                    self.num_videos += len(batch.keys)
                    del batch
                    if number == 3:
                        self._warm.set()
                    if self._end.is_set():
                        break
        finally:
            self._warm.set()  # also after an error, because `__init__` waits for it

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join()


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A loader at work.

    Attributes:
        loader: The loader.
        drain: Takes its batches.
        others: The threads of this process that are not the loader's, by number.
    """

    loader: Loader
    drain: Drain
    others: set[str]

    def beside(self, work: Callable[[], object]) -> tuple[float, float]:
        """(videos/s, the loader's CPU ms per video) while `work` runs."""
        began_s, videos, cpu_s = time.perf_counter(), self.drain.num_videos, self._cpu_s()
        work()
        num_videos = self.drain.num_videos - videos
        per_s = num_videos / (time.perf_counter() - began_s)
        return per_s, 1000 * (self._cpu_s() - cpu_s) / max(num_videos, 1)

    def _cpu_s(self) -> float:
        """CPU time of the loader's process and of its threads here, DALI's among them."""
        stats = [f"/proc/self/task/{thread}/stat" for thread in _threads() - self.others]
        stats += [f"/proc/{pid}/stat" for pid in _pids(self.loader)[1:]]
        return sum(map(_cpu_of, stats))


def main() -> None:
    """Prints the table, and writes it to --json."""
    options = _parse()
    torch.set_num_threads(1)
    device = usable_device(options.device)
    read_manifest(options.shards)  # a wrong folder is refused before anything is measured
    found: dict[str, dict[str, Any]] = {}
    trainers = {name: launch for name, launch in _trainers(device) if name in options.trainers}
    for name, launch in trainers.items():
        found[name] = _measure(launch, options)
        print(_table(name, found[name]), flush=True)
    costs = {place: _start(options, here) for place, here in PLACES.items()}
    for place, cost in costs.items():
        print(f"{place:16}" + ", ".join(f"{name} {value:.2f}" for name, value in cost.items()))
    settings = {name: str(value) for name, value in vars(options).items() if name != "json"}
    write_report(options.json, {"settings": settings, "beside": found, "costs": costs})


def _trainers(device: torch.device) -> Iterator[tuple[str, Launch]]:
    a, b = torch.rand(2, 64, 64, device=device)
    yield "launches", lambda: a @ b
    small = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)).to(device)
    compiled = torch.compile(small)
    x = torch.rand(32, 64, device=device)
    yield "compiled", lambda: compiled(x).sum().backward()
    if device.type == "cuda":
        yield (
            "step",
            training_step(build_backbone("slow_r50"), torch.rand(8, 3, 8, 112, 112), device),
        )


def training_step(backbone: nn.Module, clips: torch.Tensor, device: torch.device) -> Launch:
    """A whole step of a compiled backbone on clips (B, 3, T, H, W) that do not change."""
    backbone = backbone.to(device, memory_format=torch.channels_last_3d)
    clips = clips.to(device, memory_format=torch.channels_last_3d)
    compiled = torch.compile(backbone)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=1e-3, momentum=0.9)

    def train() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = compiled(clips).float().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return train


def _measure(launch: Launch, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    measured = {place: Rounds() for place in (*PLACES, OTHER)}
    _rate(launch, 1.0)  # compiles
    for _ in range(options.rounds):
        alone = _rate(launch, options.seconds)
        with _another_program(options) as num_videos:
            began_s, before = time.perf_counter(), num_videos.value
            rate = _rate(launch, options.seconds)
            videos_per_s = (num_videos.value - before) / (time.perf_counter() - began_s)
        measured[OTHER].trainer_kept.append(rate / alone)
        measured[OTHER].videos_per_s.append(videos_per_s)
        for place, here in PLACES.items():
            alone = _rate(launch, options.seconds)
            others = _threads()
            with _open(options, here) as loader, _drained(loader) as drain:
                watched = Watched(loader=loader, drain=drain, others=others)
                speed, _ = watched.beside(lambda: time.sleep(options.seconds))
                rates: list[float] = []
                both, cpu_ms = watched.beside(
                    lambda into=rates: into.append(_rate(launch, options.seconds))
                )
            one = measured[place]
            one.trainer_alone_per_s.append(alone)
            one.trainer_per_s.append(rates[0])
            one.trainer_kept.append(rates[0] / alone)
            one.videos_alone_per_s.append(speed)
            one.loader_kept.append(both / speed)
            one.videos_per_s.append(both)
            one.cpu_ms_per_video.append(cpu_ms)
    return {place: one.report() for place, one in measured.items()}


@contextmanager
def _another_program(options: argparse.Namespace) -> Iterator["Synchronized[int]"]:
    """During the block, another program opens the same loader and takes its batches.

    Yields the number of videos that it has taken.
    """
    context = multiprocessing.get_context("spawn")
    warm, num_videos = context.Event(), context.Value("Q")
    program = context.Process(target=_take_batches, args=(options, warm, num_videos), daemon=True)
    program.start()
    try:
        while not warm.wait(1):
            if not program.is_alive():
                raise InputError("the other program has ended; its error output says why")
        yield num_videos
    finally:
        program.kill()
        program.join()


def _take_batches(
    options: argparse.Namespace, warm: ProcessEvent, num_videos: "Synchronized[int]"
) -> None:
    torch.set_num_threads(1)
    with _open(options, here=True) as loader:
        for number, batch in enumerate(loader.stream()):
            num_videos.value += len(batch.keys)
            del batch
            if number == 3:
                warm.set()


def _rate(launch: Launch, seconds: float) -> float:
    """Launches per second."""
    began_s, number = time.perf_counter(), 0
    while time.perf_counter() - began_s < seconds:
        for _ in range(20):
            launch()
        number += 20
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return number / (time.perf_counter() - began_s)


def _open(options: argparse.Namespace, here: bool) -> Loader:
    return open_loader(
        options.shards,
        options.views,
        size_px=options.size,
        batch_size=options.batch_size,
        num_workers=options.workers,
        engine=options.engine,
        device=options.device,
        in_process=here,
    )


@contextmanager
def _drained(loader: Loader) -> Iterator[Drain]:
    drain = Drain(loader)
    try:
        yield drain
    finally:
        drain.close()


def _start(options: argparse.Namespace, here: bool) -> dict[str, float]:
    """Seconds to the opened loader and to its first batch; memory (see `_memory_mb`)."""
    began_s = time.perf_counter()
    with _open(options, here) as loader:
        opened_s = time.perf_counter() - began_s
        batches = loader.stream()
        next(batches)
        first_s = time.perf_counter() - began_s
        for _ in range(10):
            next(batches)
        costs = {"open s": opened_s, "first batch s": first_s}
        costs |= {f"process {n} MB": _memory_mb(pid) for n, pid in enumerate(_pids(loader), 1)}
        batches.close()
    return costs


def _pids(loader: Loader) -> list[int]:
    process = loader.producer.process
    return [os.getpid(), *([] if process is None else [process.pid])]


def _cpu_of(stat: str) -> float:
    """CPU seconds of a process or thread, by its file in /proc; 0 if it has ended meanwhile."""
    try:
        fields = Path(stat).read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _CLOCK_HZ


def _threads() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def _memory_mb(pid: int) -> float:
    """Proportional set size, in MiB: a page that two processes map counts half for each."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def _table(trainer: str, found: dict[str, dict[str, Any]]) -> str:
    unit = "launches/s" if trainer == "launches" else "steps/s"
    places = {name: found[name] for name in PLACES}
    alone = median(row["trainer_alone_per_s"] for row in places.values())
    lines = [
        f"{trainer:16}{unit:>11}{'kept':>6}{'videos/s':>10}{'kept':>6}{'CPU ms a video':>16}",
        f"{'alone':16}{alone:11.0f}",
    ]
    for place, row in places.items():
        lines.append(
            f"{place:16}{row['trainer_per_s']:11.0f}{row['trainer_kept']:6.2f}"
            f"{row['videos_per_s']:10.1f}{row['loader_kept']:6.2f}{row['cpu_ms_per_video']:16.1f}"
        )
    other = found[OTHER]
    lines.append(f"{OTHER:16}{'':11}{other['trainer_kept']:6.2f}{other['videos_per_s']:10.1f}")
    return "\n".join(lines)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--views", choices=sorted(NAMED_VIEWS), default="student")
    parser.add_argument("--size", type=count, default=112, help="pixels")
    parser.add_argument("--batch-size", type=count, default=8)
    parser.add_argument("--engine", choices=("fused", "dali"), default="fused")
    parser.add_argument("--workers", type=count, default=1)
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=TRAINERS)
    parser.add_argument("--seconds", type=duration_s, default=3.0)
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=new_file)
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
