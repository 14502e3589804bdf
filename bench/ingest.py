"""Videos per second of `tb shard` against the `ffmpeg` command line at the same work.

Both run on all cores with the same encoder settings and the same scaling. ffmpeg runs in the faster
of two ways: one single-threaded process per core, or one process at a time with several threads.
`tb shard` does more: it decodes every result again, hashes it and writes shards. Rounds alternate
between the two. Each ratio is taken within a round, and the median of the rounds counts. The table
also shows the ratio of processor seconds, which other work on the machine hardly changes.

    python -m bench.ingest [--videos FOLDER ...] [--rounds 5] [--ffmpeg PROGRAM]
        [--json bench/results/ingest_cpu.json]

FOLDER holds class folders. Without a FOLDER, only generated videos are timed.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import numpy as np

from bench.arguments import count, new_file, run_command, write_report
from shards.encode.geometry import PictureShape, fit
from shards.encode.recipe import Recipe
from shards.encode.video_stream import open_video
from shards.errors import InputError
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from shards.sources.source import Dataset
from tb.version import version_text

_NUM_CORES = len(os.sched_getaffinity(0))
_NUM_GENERATED = 48
_TITLES = ["clips", "videos", "frames", "`tb shard`", "ffmpeg", "ratio"]
_TITLES += ["in processor seconds", "memory per worker"]
Seconds = tuple[float, float]  # elapsed seconds, processor seconds


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Medians over the rounds; `ratio` and `cpu_ratio` above 1 mean that `tb shard` is faster."""

    name: str
    num_videos: int
    num_frames: int
    shard_videos_per_s: float
    ffmpeg_videos_per_s: float
    ffmpeg_way: str
    ratio: float
    ratio_min: float
    ratio_max: float
    cpu_ratio: float
    worker_peak_mb: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Times every set, prints a table, and writes the figures with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, nargs="*", default=[])
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--ffmpeg", help="the program; default: the one on the PATH")
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args(arguments)
    ffmpeg = options.ffmpeg or _ffmpeg()
    version = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=True)
    settings = {
        "cores": _NUM_CORES,
        "rounds": options.rounds,
        "ffmpeg": version.stdout.splitlines()[0],
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "timebalance": version_text(),
    }
    print("; ".join(f"{name} {value}" for name, value in settings.items()), file=sys.stderr)
    print(_row(_TITLES), _row(["---"] * len(_TITLES)), sep="\n", flush=True)
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        sets = [_generated(Path(scratch) / "generated"), *options.videos]
        for root in sets:
            dataset = from_folder(root, min_per_class=1)
            results.append(_compare(dataset, ffmpeg, Path(scratch), options.rounds))
            print(_row(_cells(results[-1])), flush=True)
    sets = [asdict(figures) for figures in results]
    write_report(options.json, {"settings": settings, "sets": sets})


def _compare(dataset: Dataset, ffmpeg: str, scratch: Path, num_rounds: int) -> Figures:
    recipe = Recipe()
    commands = [_command(ffmpeg, source.path, recipe) for source in dataset.sources]
    ways: dict[str, Callable[[], None]] = {
        "a process per core": lambda: _run_ffmpeg(commands, 1, _NUM_CORES, scratch),
        "its own threads": lambda: _run_ffmpeg(commands, 0, 1, scratch),
    }
    shard: list[Seconds] = []
    by_way: dict[str, list[Seconds]] = {way: [] for way in ways}
    num_frames, peak_mb = 0, 0.0
    for number in range(num_rounds):
        for way, ingestion in ways.items():
            by_way[way].append(_timed(ingestion))
        out = scratch / f"{dataset.name}-{number}"
        with _WorkerMemory() as memory:
            shard.append(_timed(lambda out=out: ingest(dataset, out, recipe=recipe)))
        peak_mb = max(peak_mb, memory.peak_mb)
        about = json.loads((out / "dataset.json").read_text())
        assert about["num_skipped"] == 0, (out / "skipped.jsonl").read_text()
        num_frames = about["num_frames"]
        shutil.rmtree(out)
    best = min(ways, key=lambda way: statistics.median(wall for wall, _ in by_way[way]))
    rounds = list(zip(shard, by_way[best], strict=True))
    ratios = [theirs[0] / ours[0] for ours, theirs in rounds]
    num_videos = len(dataset.sources)
    return Figures(
        name=dataset.name,
        num_videos=num_videos,
        num_frames=num_frames,
        shard_videos_per_s=num_videos / statistics.median(wall for wall, _ in shard),
        ffmpeg_videos_per_s=num_videos / statistics.median(wall for wall, _ in by_way[best]),
        ffmpeg_way=best,
        ratio=statistics.median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        cpu_ratio=statistics.median(theirs[1] / ours[1] for ours, theirs in rounds),
        worker_peak_mb=peak_mb,
    )


def _cells(figures: Figures) -> list[str]:
    return [
        figures.name,
        f"{figures.num_videos:,}",
        f"{figures.num_frames:,}",
        f"{figures.shard_videos_per_s:.1f}/s",
        f"{figures.ffmpeg_videos_per_s:.1f}/s ({figures.ffmpeg_way})",
        f"{figures.ratio:.2f} ({figures.ratio_min:.2f} to {figures.ratio_max:.2f})",
        f"{figures.cpu_ratio:.2f}",
        f"{figures.worker_peak_mb:.0f} MB",
    ]


def _row(cells: list[str]) -> str:
    """A row in Markdown, as docs/sharding.md has it."""
    return f"| {' | '.join(cells)} |"


def _timed(run: Callable[[], object]) -> Seconds:
    start, start_cpu = time.perf_counter(), _cpu_s()
    run()
    return time.perf_counter() - start, _cpu_s() - start_cpu


def _cpu_s() -> float:
    """Processor seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _ffmpeg() -> str:
    """The program on the PATH, or the one in the package imageio-ffmpeg."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise InputError(
            "needs the ffmpeg program: install the package ffmpeg of your system, or"
            " pip install imageio-ffmpeg"
        ) from error
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def _command(ffmpeg: str, path: Path, recipe: Recipe) -> list[str]:
    """The command without the number of threads and the output."""
    options = recipe.encoder_options()
    # ffmpeg accepts this option only as a parameter of x264.
    x264 = f"mbtree={options.pop('mbtree')}"
    with open_video(path) as (_, stream):
        shape = PictureShape(height=stream.height, width=stream.width)
        size = fit(shape, recipe.short_side_px)
    scale = f"scale={size.scaled_width}:{size.scaled_height}:flags=bicubic+accurate_rnd+bitexact"
    filters = f"{scale}:out_range=tv,format=yuv420p,crop={size.width}:{size.height}"
    flags = [part for name, value in options.items() for part in (f"-{name}", value)]
    return [
        *(ffmpeg, "-nostdin", "-loglevel", "error", "-y", "-i", str(path), "-an", "-vf", filters),
        *("-c:v", recipe.codec_type.encoder, *flags, "-x264-params", x264),
    ]


def _run_ffmpeg(commands: list[list[str]], threads: int, at_once: int, scratch: Path) -> None:
    def run(index: int) -> None:
        output = scratch / f"ffmpeg-{index}.mp4"
        limit = ["-threads", str(threads), "-filter_threads", str(threads or _NUM_CORES)]
        # The option is before the input too, because the decoder has separate threads.
        program, *rest = commands[index]
        command = [program, "-threads", str(threads), *rest, *limit, str(output)]
        subprocess.run(command, check=True)
        output.unlink()

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(run, range(len(commands))))


def _generated(root: Path) -> Path:
    """Videos like UCF101's: 320x240, 25 fps, 3 to 10 s, MPEG-4 in AVI, moving noise and shapes."""
    for index in range(_NUM_GENERATED):
        path = root / f"class{index % 4}" / f"{index}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(index)
        texture = rng.integers(0, 255, (30, 40, 3), np.uint8)
        texture = np.kron(texture, np.ones((16, 16, 1), np.uint8))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25, options={"b": "1M", "bf": "2"})
            stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
            for step in range(int(rng.integers(75, 250))):
                top, left = (step * 2) % 240, (step * 3) % 320
                image = np.roll(texture, (top, left), (0, 1))[:240, :320].copy()
                image[top : top + 60, left : left + 60] = (
                    255 - image[top : top + 60, left : left + 60]
                )
                noise = rng.integers(-6, 6, image.shape)
                image = np.clip(image + noise, 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    return root


class _WorkerMemory:
    """The largest resident size that a child of this process has had, from /proc."""

    def __enter__(self) -> "_WorkerMemory":
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.2):
            for children in Path("/proc/self/task").glob("*/children"):
                for pid in children.read_text().split():
                    self.peak_mb = max(self.peak_mb, _peak_mb(pid))


def _peak_mb(pid: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


if __name__ == "__main__":
    run_command(main)
