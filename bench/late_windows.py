"""How the time to decode 16 frames depends on where they are in the video, in DALI and in PyAV.

    python -m bench.late_windows --shards DIR [--frames 16] [--rounds 9] [--device cpu]
        [--json FILE]

It takes the longest video of DIR, and a window at its start, in its middle and at its end. Each
window begins with a GOP, so the same number of frames is decoded for each. DALI decodes a window
from the whole file and from a file that holds only the window; PyAV decodes the window too. First
the pixels of both of DALI's ways are compared. Each round times every cell once, and medians count.
The last row is the time to make the window's file, in microseconds. On a CPU, DALI decodes only vp9
and mjpeg.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench.arguments import count, new_file, run_command, write_report
from loaders import Loader, open_loader
from loaders.decode import decoded_turns
from loaders.engines.dali.engine import DaliEngine
from loaders.engines.dali.graph import Graph
from loaders.engines.dali.samples import Sample, SampleBatch
from loaders.engines.dali.window_file import window_file
from loaders.plan import stage_views
from shards.errors import InputError
from shards.format.manifest import read_manifest
from shards.format.packets import Window
from shards.reader import ShardReader
from tb.version import version_text

WHOLE, WINDOW, PYAV, FILE = "DALI, whole file", "DALI, window", "PyAV, window", "its file"
WAYS = {WHOLE: 1e3, WINDOW: 1e3, PYAV: 1e3, FILE: 1e6}
"""Row -> the factor from seconds to its figures."""


def main() -> None:
    """Prints milliseconds: a row for each way, a column for each place."""
    options = _parse()
    manifest = read_manifest(options.shards)
    row = int(np.argmax(manifest.num_frames))
    num_frames = int(manifest.num_frames[row])
    wanted = min(options.frames, num_frames)
    spec = stage_views.finetune(num_frames=wanted, size_px=32)
    with (
        ShardReader(manifest) as reader,
        open_loader(manifest, spec, engine="dali", device=options.device, batch_size=1) as loader,
    ):
        gops = np.array(reader.read_window(row, 0, num_frames - 1).byte_range.gop_frames)
        gops = gops[gops + wanted <= num_frames]
        starts = [int(gops[k]) for k in (0, len(gops) // 2, -1)]
        cells = _cells(loader, reader, row, starts, wanted)
        seconds: dict[tuple[str, int], list[float]] = {cell: [] for cell in cells}
        for _ in range(options.rounds + 1):  # the first one is a warm-up
            for cell, work in cells.items():
                began_s = time.perf_counter()
                work()
                seconds[cell].append(time.perf_counter() - began_s)
    found = {way: [median(seconds[way, start][1:]) for start in starts] for way in WAYS}
    print(f"{manifest.keys[row]}: {num_frames} frames, {manifest.codecs[row]}; milliseconds")
    print(f"{'':18}" + "".join(f"{f'at {start}':>10}" for start in starts))
    for way, factor in WAYS.items():
        print(f"{way:18}" + "".join(f"{factor * value:10.1f}" for value in found[way]))
    report = {
        "timebalance": version_text(),
        "codec": manifest.codecs[row],
        "video_frames": num_frames,
        "frames": wanted,
        "rounds": options.rounds,
        "starts": starts,
        "seconds": found,
    }
    write_report(options.json, report)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Decode early, middle and late windows.")
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--frames", type=count, default=16)
    parser.add_argument("--rounds", type=count, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=new_file)
    return parser.parse_args()


def _cells(
    loader: Loader, reader: ShardReader, row: int, starts: list[int], wanted: int
) -> dict[tuple[str, int], Callable[[], object]]:
    """(way, start) -> the work to time."""
    engine, plan, manifest = loader.engine, next(loader.planner.stream()), loader.manifest
    assert isinstance(engine, DaliEngine)
    if not engine.decodes:
        raise InputError(f"{manifest.where}: DALI does not decode these videos on {engine.device}")
    graph = engine.graph(num_threads=1, depth=1, until="decode")
    cells: dict[tuple[str, int], Callable[[], object]] = {}
    for start in starts:
        frames = np.arange(start, start + wanted, dtype=np.int32)
        there = replace(plan, rows=np.array([row]), frames=frames.reshape(plan.frames.shape))
        window = engine.read(reader, there)
        whole = _whole(window, reader.read(row))
        expected = _decoded(graph, whole).clone()
        if not torch.equal(expected, _decoded(graph, window)):
            raise RuntimeError(f"at {start}: a window and the whole file give other pixels")
        packets = reader.read_window(row, start, start + wanted - 1)
        size, num_frames = packets.size, int(manifest.num_frames[row])
        cells |= {
            (WHOLE, start): partial(_decoded, graph, whole),
            (WINDOW, start): partial(_decoded, graph, window),
            (PYAV, start): partial(_decode_and_drop, packets, frames, num_frames, size),
            (FILE, start): partial(window_file, packets),
        }
    return cells


def _decode_and_drop(
    window: Window, frames: np.ndarray, num_frames: int, size: tuple[int, int]
) -> None:
    for _ in decoded_turns(window, frames, num_frames, size):
        pass


def _whole(batch: SampleBatch, data: bytes) -> SampleBatch:
    samples: dict[int, Sample] = {
        b: replace(sample, data=np.frombuffer(data, np.uint8), first=0)
        for b, sample in batch.samples.items()
    }
    return replace(batch, samples=samples)


def _decoded(graph: Graph, batch: SampleBatch) -> torch.Tensor:
    """(1, F, H, W, 3) uint8; valid until the next call."""
    graph.submit(batch.inputs([0]))
    return graph.collect()[0]


if __name__ == "__main__":
    run_command(main)
