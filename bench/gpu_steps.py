"""The steps of `bench.gpu_check`, each a function from a `Task` to what it found.

A step runs in a process of its own (see `bench.gpu_check`). What it returns is JSON; "passed" False
makes it a failure. A step that may run out of time saves what it has with `task.save`.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from bench.gpu_meter import Meter, Nvml
from bench.peers.torchvision_views import torchvision_views
from loaders import views
from loaders.batch import Loader, open_loader
from loaders.dali_tuning import Tuning
from loaders.nvdec import decoder_caps
from loaders.views import ViewSpec
from shards.datasets import folder
from shards.ingest import ingest
from shards.reader import ShardReader
from shards.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("h264", "hevc", "vp9", "mjpeg")
# The conversion to RGB of a GPU differs from FFmpeg's by some levels.
MAX_MEAN_DIFFERENCE, MIN_PSNR_DB = 1.5 / 255, 38.0
_PACKAGES = ("av", "numpy", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "torch", "torchcodec")
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a step is given.

    Attributes:
        device: A torch device; the CPU in a dry run.
        work: Scratch folder, shared by the steps; the first one puts the shards there.
        videos: Folder of class folders with videos, or None to make some.
        out: Where the step's findings go.
        end_s: Of `time.time()`, when the step should be over.
    """

    device: torch.device
    work: Path
    videos: Path | None
    out: Path
    end_s: float

    @property
    def is_dry(self) -> bool:
        """Whether this shows only that every step runs."""
        return self.device.type == "cpu"

    def shards(self, recipe: str) -> Path:
        """The videos in one recipe."""
        return self.work / "shards" / recipe

    def save(self, found: Found) -> None:
        """Writes what has been found so far."""
        partial = self.out.with_suffix(".part")
        partial.write_text(json.dumps(found, indent=2) + "\n")
        partial.replace(self.out)


def environment(task: Task) -> Found:
    """Machine, driver and versions."""
    found: Found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "cuda": torch.version.cuda,
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    if not task.is_dry:
        properties = torch.cuda.get_device_properties(task.device)
        found |= {
            "gpu": properties.name,
            "gpu_memory_mb": properties.total_memory // 2**20,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "nvdec_engines": decoder_caps(task.device, "h264").num_engines,
            "driver": Nvml(task.device).driver(),
        }
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def capabilities(task: Task) -> Found:
    """What NVDEC takes; in a dry run, what DALI decodes on the CPU."""
    if task.is_dry:
        from loaders.dali_graph import CPU_CODECS

        return {"cpu": sorted(CPU_CODECS), "passed": True}
    formats = {
        "h264": ("yuv420p", "yuv420p10le", "yuv422p", "yuv444p"),
        "hevc": ("yuv420p", "yuv420p10le", "yuv444p"),
        **dict.fromkeys(("mpeg4", "vp8", "vp9", "av1", "mjpeg"), ("yuv420p",)),
    }
    caps = {
        f"{codec} {name}": decoder_caps(task.device, codec, name)
        for codec, names in formats.items()
        for name in names
    }
    return {
        **{name: f"{told}; {told.num_engines} engines" for name, told in caps.items()},
        "passed": all(caps[f"{recipe} yuv420p"].is_supported for recipe in RECIPES),
    }


def store(task: Task) -> Found:
    """Stores the videos by every recipe."""
    source = task.videos
    if source is None:
        source = task.work / "videos"
        _make_videos(source, num_videos=2 if task.is_dry else 24)
    found: Found = {}
    for recipe in RECIPES:
        began_s = time.perf_counter()
        chosen = Recipe(codec=recipe, short_side_px=144 if task.is_dry else 256)
        report = ingest(folder(source, min_per_class=1), task.shards(recipe), recipe=chosen)
        found[recipe] = {
            "videos": report.num_videos,
            "skipped": report.num_skipped,
            "seconds": round(time.perf_counter() - began_s, 1),
        }
        task.save(found)
    return found | {"passed": all(report["videos"] for report in found.values())}


def _make_videos(root: Path, num_videos: int) -> None:
    """Textures that drift, 320x240, 80 to 200 frames."""
    (root / "made").mkdir(parents=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(
            pool.map(
                lambda seed: _make_video(root / "made" / f"v{seed:03d}.avi", seed),
                range(num_videos),
            )
        )


def _make_video(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:240, 0:320].astype(np.float32)
    waves, speed = rng.uniform(0.02, 0.4, (3, 2)), rng.uniform(0.05, 0.3, 3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"b": "2M"})
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        for step in range(int(rng.integers(80, 200))):
            channels = [
                128 + 100 * np.sin(np.float32(down) * y + np.float32(right) * x + step * turn)
                for (down, right), turn in zip(waves, speed.tolist(), strict=True)
            ]
            picture = np.stack(channels, axis=-1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def parity(task: Task) -> Found:
    """DALI against the reference engine: every preset, every recipe, the worst view of each."""
    found: Found = {}
    videos = 1 if task.is_dry else 4
    for recipe in RECIPES:
        for name, spec in _presets(48 if task.is_dry else 112).items():
            ours, oracle = (
                next(
                    open_loader(
                        task.shards(recipe), spec, engine=engine, device=device, batch_size=videos
                    ).batches()
                )
                for engine, device in (("dali", str(task.device)), ("reference", "cpu"))
            )
            found[f"{recipe} {name}"] = _worst_view(ours.views, oracle.views)
            task.save(found)
    return found | {"passed": all(view["passed"] for view in found.values())}


def _presets(size_px: int) -> dict[str, ViewSpec]:
    return {
        "pretrain": views.pretrain(size_px=size_px),
        "student": views.finetune(size_px=size_px),
        "student_pair": views.weak_strong(size_px=size_px),
        "similarity": views.similarity(size_px=size_px),
        "eval": views.evaluation(size_px=size_px, num_clips=3),
        "eval 3 crops": views.evaluation(size_px=size_px, num_clips=1, num_crops=3),
    }


def _worst_view(ours: dict[str, torch.Tensor], oracle: dict[str, torch.Tensor]) -> Found:
    means, psnrs = [], []
    for name in oracle:
        error = (ours[name].double().cpu() - oracle[name].double()).flatten(-4)
        means.append(float(error.abs().mean(-1).max()))
        psnrs.append(float(-10 * error.square().mean(-1).max().clamp_min(1e-12).log10()))
    return {
        "mean_difference_of_255": round(max(means) * 255, 3),
        "psnr_db": round(min(psnrs), 1),
        "passed": max(means) <= MAX_MEAN_DIFFERENCE and min(psnrs) >= MIN_PSNR_DB,
    }


def determinism(task: Task) -> Found:
    """The tests of order, resume and layout."""
    return _run_tests(task, "layout or resume or order or kept")


def faults(task: Task) -> Found:
    """The tests of bad videos."""
    return _run_tests(task, "bad or changed or blamed")


def tests(task: Task) -> Found:
    """All tests that want a GPU; in a dry run they are skipped."""
    return _run_tests(task, "gpu", everything=True)


def _run_tests(task: Task, expression: str, *, everything: bool = False) -> Found:
    """Counts of pytest's outcomes; the tests themselves take the device as a parameter."""
    report = task.out.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", f"--junitxml={report}"]
    if everything:
        command += ["-m", "gpu", "tests"]
    else:
        command += ["-k", f"({expression}) and {task.device.type}", "-m", "not slow"]
        command += ["tests/loaders/test_dali.py"]
    required = "0" if task.is_dry else "1"
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "TB_REQUIRE_GPU": required},
        capture_output=True,
        text=True,
        timeout=max(1.0, task.end_s - time.time()),
        check=False,
    )
    suite = next(ET.parse(report).getroot().iter("testsuite")).attrib
    return {
        "tests": int(suite["tests"]),
        "failed": int(suite["failures"]) + int(suite["errors"]),
        "skipped": int(suite["skipped"]),
        "passed": done.returncode == 0,
        **({} if done.returncode == 0 else {"output": done.stdout[-4000:]}),
    }


def throughput(task: Task) -> Found:
    """Videos per second of every layout, recipe and peer, with what the GPU was doing."""
    engines = 2 if task.is_dry else decoder_caps(task.device, "h264").num_engines
    layouts = sorted({1, 2} if task.is_dry else {1, 2, 4, max(1, engines)})
    sizes = (32,) if task.is_dry else (224, 112)
    found: Found = {}
    for cell in _cells(task, layouts, sizes):
        if time.time() > task.end_s:
            found[cell.name] = {"problem": "left out: no time"}
        else:
            found[cell.name] = _measured(cell.run, task)
        task.save(found)
    problems = [cell for cell in found.values() if "problem" in cell]
    return found | {"passed": not problems}


@dataclass(frozen=True, kw_only=True)
class _Cell:
    name: str
    run: Callable[[], Iterator[int]]


def _cells(task: Task, layouts: list[int], sizes: tuple[int, ...]) -> Iterator[_Cell]:
    """What matters most first, in case time runs out."""
    for size_px in sizes:
        for stage in ("pretrain", "student", "eval"):
            for number in reversed(layouts):
                yield _dali(task, stage, size_px, "h264", number)
            yield _fused(task, stage, size_px)
            yield _torchcodec(task, stage, size_px)
        if size_px == sizes[0]:
            for recipe in RECIPES[1:]:
                yield _dali(task, "pretrain", size_px, recipe, layouts[-1])


def _loader(task: Task, stage: str, size_px: int, recipe: str, engine: str, **more: Any) -> Loader:
    batch_size = 2 if task.is_dry else {"pretrain": 8, "student": 32, "eval": 4}[stage]
    return open_loader(
        task.shards(recipe),
        stage,
        size_px=size_px,
        engine=engine,
        device=str(task.device),
        dtype="float16",
        batch_size=batch_size,
        **more,
    )


def _dali(task: Task, stage: str, size_px: int, recipe: str, num_pipelines: int) -> _Cell:
    def run() -> Iterator[int]:
        tuning = Tuning(num_pipelines=num_pipelines, depth=2 if num_pipelines == 1 else 1)
        loader = _loader(task, stage, size_px, recipe, "dali", tune=tuning)
        return _num_videos(loader)

    return _Cell(name=f"{stage} {size_px} {recipe} dali x{num_pipelines}", run=run)


def _fused(task: Task, stage: str, size_px: int) -> _Cell:
    def run() -> Iterator[int]:
        return _num_videos(_loader(task, stage, size_px, "h264", "fused"))

    return _Cell(name=f"{stage} {size_px} h264 fused", run=run)


def _num_videos(loader: Loader) -> Iterator[int]:
    for batch in loader.stream():
        yield len(batch.keys)


def _torchcodec(task: Task, stage: str, size_px: int) -> _Cell:
    """torchcodec on the device, then torchvision v2 there, in as many threads as there are CPUs."""

    def run() -> Iterator[int]:
        from torchcodec.decoders import VideoDecoder

        loader = _loader(task, stage, size_px, "h264", "fused")

        def render(reader: ShardReader, plan: Any, b: int) -> None:
            needed, place = np.unique(plan.frames[b], return_inverse=True)
            decoder = VideoDecoder(
                reader.read(int(plan.rows[b])), device=task.device, num_ffmpeg_threads=1
            )
            frames = decoder.get_frames_at(needed.tolist()).data
            torch.stack(torchvision_views(frames, place.reshape(plan.frames[b].shape), plan, b))

        workers = min(8, len(os.sched_getaffinity(0)))
        with ShardReader(loader.manifest) as reader, ThreadPoolExecutor(workers) as pool:
            for plan in (loader.plan(rows, epochs) for rows, epochs in _endless(loader)):
                jobs = [pool.submit(render, reader, plan, b) for b in range(len(plan.rows))]
                for job in jobs:
                    job.result()
                yield len(jobs)

    return _Cell(name=f"{stage} {size_px} h264 torchcodec", run=run)


def _endless(loader: Loader) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    epoch = 0
    while True:
        for plan in loader.plans(epoch):
            kept = plan.rows >= 0
            yield plan.rows[kept], plan.epochs[kept]
        epoch += 1


def _measured(run: Callable[[], Iterator[int]], task: Task) -> Found:
    """Videos per second after a warm-up of some batches."""
    warm_batches, seconds = (1, 0.2) if task.is_dry else (16, 3.0)
    try:
        with closing(run()) as batches:  # type: ignore[type-var]
            for _ in islice(batches, warm_batches):
                pass
            num_videos = 0
            with Meter(task.device) as meter:
                _synchronize(task.device)
                began_s = time.perf_counter()
                while time.perf_counter() - began_s < seconds:
                    num_videos += next(batches)
                _synchronize(task.device)
                wall_s = time.perf_counter() - began_s
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"[:500]}
    return {"videos_per_s": round(num_videos / wall_s, 1), **meter.figures}


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training(task: Task) -> Found:
    """`bench.train_step` where there is one."""
    if importlib.util.find_spec("bench.train_step") is None:
        return {"skipped": "there is no bench.train_step"}
    report = task.work / "train_step.json"
    command = [sys.executable, "-m", "bench.train_step", "--json", str(report)]
    command += ["--device", str(task.device)]
    if task.is_dry:
        command += ["--backbone", "small", "--size", "32", "--batch-size", "2", "--rounds", "1"]
    limit_s = max(1.0, task.end_s - time.time())
    subprocess.run(command, cwd=ROOT, timeout=limit_s, check=True, stdout=sys.stderr)
    return {"figures": json.loads(report.read_text())}


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to run, and the share of the time that is kept for it."""

    run: Callable[[Task], Found]
    share: float


# In the order in which they run.
STEPS = {
    "environment": Step(run=environment, share=0.03),
    "capabilities": Step(run=capabilities, share=0.02),
    "shards": Step(run=store, share=0.1),
    "parity": Step(run=parity, share=0.15),
    "determinism": Step(run=determinism, share=0.06),
    "faults": Step(run=faults, share=0.06),
    "throughput": Step(run=throughput, share=0.38),
    "training": Step(run=training, share=0.12),
    "tests": Step(run=tests, share=0.08),
}
