"""Compares three decoders of windows: the loop of `fused`, PyAV's decoders, torchcodec's blocks.

    python -m bench.window_decoders --shards DIR --views student

All get the same windows and give the same planes; first the luma of PyAV and of torchcodec is
compared for ten windows. The decoders of the first two stay open. torchcodec takes packets only
from its own demuxer, and its decoder belongs to one file. So each window becomes a small MP4 file
(see `loaders.engines.dali.window_file`), and a demuxer and a decoder are opened for it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.arguments import count, new_file, run_command, write_report
from loaders import open_loader
from loaders.decode import decoded_frames, decoded_planes
from loaders.engines.dali.window_file import window_file
from loaders.plan.stage_views import NAMED_VIEWS
from shards.decode.window_planes import window_planes
from shards.errors import InputError
from shards.format.packets import Window
from shards.reader import ShardReader
from tb.version import version_text


@dataclass(frozen=True, kw_only=True)
class WindowJob:
    """A window, the (N,) numbers of the frames that its views show, and the video's length."""

    window: Window
    needed: np.ndarray
    num_frames: int


def main() -> None:
    """Measures the decoders, and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True, help="A folder made by `tb shard`.")
    parser.add_argument(
        "--views", choices=sorted(NAMED_VIEWS), default="student", help="The name of the views."
    )
    parser.add_argument("--videos", type=count, default=60, help="Windows per round.")
    parser.add_argument("--rounds", type=count, default=7)
    parser.add_argument("--json", type=new_file)
    args = parser.parse_args()
    jobs = list(_jobs(args.shards, args.views, args.videos))
    decoders: dict[str, Callable[[WindowJob], object]] = {
        "fused": _compiled,
        "PyAV": _pyav,
        "torchcodec": _torchcodec,
    }
    for job in jobs[:10]:
        _check_same(job)
    print(f"{args.views}, {len(jobs)} windows, {args.rounds} rounds: medians a window")
    rows: list[dict[str, str | float]] = []
    for num_threads in (1, 2):
        rounds = [
            {name: _timed(decode, jobs, num_threads) for name, decode in decoders.items()}
            for _ in range(args.rounds)
        ]
        for name in decoders:
            cpu_ms, wall_ms = (median(one[name][i] for one in rounds) for i in range(2))
            print(f"{num_threads} threads  {name:10}  {cpu_ms:6.2f} CPU ms  {wall_ms:6.2f} ms")
            rows.append(
                {"threads": num_threads, "decoder": name, "cpu_ms": cpu_ms, "wall_ms": wall_ms}
            )
    settings = {"views": args.views, "windows": len(jobs), "rounds": args.rounds}
    settings |= {"codec": jobs[0].window.codec, "timebalance": version_text()}
    write_report(args.json, {"settings": settings, "rows": rows})


def _jobs(shards: Path, views: str, num_videos: int) -> Iterator[WindowJob]:
    with (
        open_loader(shards, views, size_px=112, batch_size=1, engine="reference") as loader,
        ShardReader(loader.manifest) as reader,
    ):
        if not loader.manifest.has_packets.all():
            raise InputError(f"{shards}: some videos have no packet index")
        for plan in islice(loader.plans(0), num_videos):
            needed, row = np.unique(plan.frames[0]), int(plan.rows[0])
            yield WindowJob(
                window=reader.read_window(row, int(needed[0]), int(needed[-1])),
                needed=needed,
                num_frames=int(plan.num_frames[0]),
            )


def _pyav(job: WindowJob) -> None:
    for _ in decoded_planes(job.window, job.needed, job.num_frames, job.window.size):
        pass


def _compiled(job: WindowJob) -> None:
    for _ in window_planes(job.window, job.needed):
        pass


def _torchcodec(job: WindowJob) -> list[Any]:
    """The planes of each frame that is needed: three (H, W) uint8 tensors."""
    # The module is private in 0.17.
    from torchcodec.decoders._blocks import Demuxer

    demuxer = Demuxer(window_file(job.window))
    decoder = demuxer.streams[0].make_decoder(device="cpu")
    needed = set((job.needed - job.window.byte_range.gop_frames[0]).tolist())
    planes, number = [], 0
    for packet in demuxer:
        for frame in decoder.decode(packet):
            if number in needed:
                planes.append(frame.planes)
            number += 1
        if len(planes) == len(needed):
            return planes
    for frame in decoder.drain():
        if number in needed:
            planes.append(frame.planes)
        number += 1
    return planes


def _check_same(job: WindowJob) -> None:
    frames = decoded_frames(job.window, job.needed, job.num_frames, job.window.size)
    for frame, planes in zip(frames, _torchcodec(job), strict=True):
        luma = frame.to_ndarray()[: frame.height]
        if not np.array_equal(luma, planes[0].numpy()):
            raise InputError("PyAV and torchcodec do not give the same pictures")


def _timed(
    decode: Callable[[WindowJob], object], jobs: list[WindowJob], num_threads: int
) -> tuple[float, float]:
    """(CPU ms, elapsed ms) for each window."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(num_threads) as threads:
        for _ in threads.map(decode, jobs):
            pass
    cpu_s, wall_s = time.process_time() - began_cpu_s, time.perf_counter() - began_s
    return cpu_s / len(jobs) * 1e3, wall_s / len(jobs) * 1e3


if __name__ == "__main__":
    run_command(main)
