"""Videos per second of every engine and of every other loader that is installed.

All make the same views of the same videos by the same plan, with exceptions: `torchcodec-jitter`
draws its own colours, and `render-webdataset` has its own order. Two contenders are the engine
`fused` behind readers that are not ours (`bench.readers`): `loaders.Render` in a pipeline of the
stock `webdataset` library, and in a `DataLoader` over files. Each round runs every contender once,
so other work on the machine affects all of them equally. The figures are medians over rounds, in
elapsed seconds and in processor seconds. The ceiling is FFmpeg, which decodes the same windows and
does nothing else.

    python bench/loader_throughput.py --shards DIR [--views pretrain] [--size 112]
        [--engines fused dali reference] [--tune] [--peers torchcodec ...]
        [--readers render-webdataset render-folder]
        [--json FILE] [--png FILE]
"""

import argparse
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.arguments import count, new_file, run_command, write_report
from bench.contenders import CEILING, Contender, Job, Timing
from bench.peers import PEERS
from bench.readers import READERS
from loaders import TryLayouts
from loaders.engines.choice import DTYPES
from loaders.engines.engine import EngineName
from loaders.plan.stage_views import NAMED_VIEWS, view_spec
from shards.format.manifest import read_manifest
from tb.version import version_text

_LIBRARIES = ("av", "decord2", "nvidia-dali-cuda130", "opencv-python-headless", "pytorchvideo")
_LIBRARIES += ("spdl-io", "torch", "torchcodec", "torchvision", "video-reader-rs", "webdataset")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender's medians.

    Ratios compare videos per second. `cpu_ratio_to_best_peer` compares processor seconds per video,
    which other programs on the machine disturb less. `stages_ms` has the milliseconds that an
    engine's threads spent on a video in each part of their work. This is elapsed time. On a quiet
    machine with a core for each thread it is about their processor time. If several processes share
    a page, `peak_rss_mb` counts it once for each of them. `psnr_db` compares the worst view with
    the reference engine.
    """

    name: str
    videos_per_s: float
    views_per_s: float
    frames_per_s: float
    cpu_s_per_video: float
    peak_rss_mb: float
    ratio_to_best_peer: float | None
    cpu_ratio_to_best_peer: float | None
    fraction_of_decode_ceiling: float
    cpu_fraction_of_decode_ceiling: float
    psnr_db: float | None
    stages_ms: dict[str, float] | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the rounds and prints the table."""
    options = _parse(arguments)
    read_manifest(options.shards)  # a wrong folder is one error, and not one for each contender
    num_batches = max(1, round(options.videos / options.batch_size))
    job = Job(
        shards=options.shards,
        views=options.views,
        size_px=options.size,
        dtype=options.dtype,
        num_batches=num_batches,
        batch_size=options.batch_size,
        num_workers=options.workers,
        layout=TryLayouts(gpu_memory_mb=options.gpu_memory_mb) if options.tune else None,
    )
    contenders = []
    for name in [CEILING, *options.engines, *options.readers, *options.peers]:
        print(f"starting {name}", flush=True)
        contender = Contender(name, job)
        if contender.problem:
            print(f"  left out: {contender.problem}")
            contender.close()
        else:
            contenders.append(contender)
    timings: dict[str, list[Timing]] = {contender.name: [] for contender in contenders}
    for number in range(options.rounds):
        for contender in contenders:
            timing = contender.run(number)
            timings[contender.name].append(timing)
            speed = timing.num_videos / timing.wall_s
            print(f"round {number + 1}  {contender.name:18s} {speed:8.1f} videos/s", flush=True)
    rows = _rows(contenders, timings, job)
    print(_table(rows, job))
    settings = {
        **{name: getattr(job, name) for name in ("views", "size_px", "dtype", "num_workers")},
        "batch_size": job.batch_size,
        "videos_per_round": job.num_batches * job.batch_size,
        "rounds": options.rounds,
        "timebalance": version_text(),
        "libraries": _versions(),
    }
    write_report(options.json, {"settings": settings, "rows": [asdict(row) for row in rows]})
    if options.png:
        _draw(rows, job, options.png)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--views", choices=sorted(NAMED_VIEWS), default="pretrain")
    parser.add_argument("--size", type=count, default=112, help="output side in pixels")
    parser.add_argument("--engines", nargs="*", choices=list(EngineName), default=["fused"])
    parser.add_argument("--tune", action="store_true", help="try layouts of dali first")
    parser.add_argument("--gpu-memory-mb", type=float, help="with --tune: the limit of a layout")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--readers", nargs="*", choices=READERS, default=list(READERS))
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--videos", type=count, default=32, help="per round")
    parser.add_argument("--batch-size", type=count, default=8)
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--workers", type=count, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=new_file)
    parser.add_argument("--png", type=new_file)
    return parser.parse_args(arguments)


def _versions() -> dict[str, str]:
    """Library -> version, of those that are installed."""
    found = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _rows(contenders: list[Contender], timings: dict[str, list[Timing]], job: Job) -> list[Row]:
    spec = view_spec(job.views, job.size_px)
    speed = {
        name: statistics.median(timing.num_videos / timing.wall_s for timing in rounds)
        for name, rounds in timings.items()
    }
    cpu_s = {
        name: statistics.median(timing.cpu_s / timing.num_videos for timing in rounds)
        for name, rounds in timings.items()
    }
    peers = [name for name in timings if name in PEERS]
    best = max((speed[name] for name in peers), default=None)
    least_cpu_s = min((cpu_s[name] for name in peers), default=None)
    return [
        Row(
            name=name,
            videos_per_s=speed[name],
            views_per_s=speed[name] * spec.num_views,
            frames_per_s=speed[name] * spec.num_views * spec.num_frames,
            cpu_s_per_video=cpu_s[name],
            peak_rss_mb=contender.close(),
            ratio_to_best_peer=speed[name] / best if best else None,
            cpu_ratio_to_best_peer=least_cpu_s / cpu_s[name] if least_cpu_s else None,
            fraction_of_decode_ceiling=speed[name] / speed[CEILING],
            cpu_fraction_of_decode_ceiling=cpu_s[CEILING] / cpu_s[name],
            psnr_db=None if name == CEILING else contender.psnr_db,
            stages_ms=_stages_ms(timings[name]) if name in list(EngineName) else None,
        )
        for contender in contenders
        for name in [contender.name]
    ]


def _stages_ms(rounds: list[Timing]) -> dict[str, float]:
    """The median milliseconds that a video takes in each part of the work."""
    return {
        stage: statistics.median(
            1000 * getattr(timing.times, f"{stage}_s") / timing.num_videos for timing in rounds
        )
        for stage in ("read", "decode", "augment")
    }


def _table(rows: list[Row], job: Job) -> str:
    lines = [
        "",
        f"{job.views} at {job.size_px} px, {job.dtype}, {job.num_workers} workers, {job.shards}",
        f"{'':18s} {'videos/s':>9s} {'CPU ms':>7s} {'RSS MB':>7s} {'x best peer':>11s}"
        f" {'(CPU)':>6s} {'of ceiling':>10s} {'(CPU)':>6s} {'PSNR dB':>8s}",
    ]
    for row in rows:
        lines.append(
            f"{row.name:18s} {row.videos_per_s:9.1f} {row.cpu_s_per_video * 1e3:7.1f}"
            f" {row.peak_rss_mb:7.0f} {_number(row.ratio_to_best_peer):>11s}"
            f" {_number(row.cpu_ratio_to_best_peer):>6s}"
            f" {row.fraction_of_decode_ceiling:10.2f} {row.cpu_fraction_of_decode_ceiling:6.2f}"
            f" {_number(row.psnr_db):>8s}"
        )
    for row in rows:
        if row.stages_ms:
            stages = ", ".join(f"{name} {ms:.2f}" for name, ms in row.stages_ms.items())
            lines.append(f"{row.name}, ms a video in its threads: {stages}")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _draw(rows: list[Row], job: Job, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.2), layout="constrained")
    bars = axes.barh(
        [row.name for row in rows],
        [row.videos_per_s for row in rows],
        color=[
            "#999999"
            if row.name == CEILING
            else "#3b6ea5"
            if row.name in list(EngineName)
            else "#d9822b"
            for row in rows
        ],
    )
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.invert_yaxis()
    axes.set_xlabel("videos per second")
    axes.set_title(f"{job.views} at {job.size_px} px, {job.dtype}, {job.num_workers} workers")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    run_command(main)
