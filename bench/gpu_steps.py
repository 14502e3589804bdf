"""The steps of `bench.gpu_check`: each is a function that takes a `Task` and returns its findings.

A step runs in a separate process (see `bench.gpu_check`). It returns JSON, and "passed": False
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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from bench.gpu_meter import Nvml
from bench.gpu_task import RECIPES, Found, Task
from bench.gpu_throughput import throughput
from loaders import ViewSpec, open_loader
from loaders.engines.dali.nvdec import decoder_caps
from loaders.engines.reference import centred_engine
from loaders.plan import stage_views
from shards.cpus import num_cpus
from shards.encode.recipe import Recipe
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder

ROOT = Path(__file__).resolve().parents[1]
# A GPU's conversion to RGB differs from FFmpeg's by some levels.
MAX_MEAN_DIFFERENCE, MIN_PSNR_DB = 1.5 / 255, 38.0
_PACKAGES = ("av", "numpy", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "torch", "torchcodec")


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
            "nvdec_decoders": decoder_caps(task.device, "h264").num_decoders,
            "driver": Nvml(task.device).driver(),
        }
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def capabilities(task: Task) -> Found:
    """The formats that NVDEC takes; in a dry run, the codecs that DALI decodes on the CPU."""
    if task.is_dry:
        from loaders.engines.dali.graph import CPU_CODECS

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
        **{name: f"{told}; {told.num_decoders} decoders" for name, told in caps.items()},
        "passed": all(caps[f"{recipe} yuv420p"].is_supported for recipe in RECIPES),
    }


def store(task: Task) -> Found:
    """Stores the videos with every recipe."""
    source = task.videos
    if source is None:
        source = task.work / "videos"
        _make_videos(source, num_videos=2 if task.is_dry else 24)
    found: Found = {}
    for recipe in RECIPES:
        began_s = time.perf_counter()
        chosen = Recipe(codec=recipe, short_side_px=144 if task.is_dry else 256)
        report = ingest(from_folder(source, min_per_class=1), task.shards(recipe), recipe=chosen)
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
    """Compares DALI with the oracle: the worst view of every preset and recipe."""
    found: Found = {}
    videos = 1 if task.is_dry else 4
    for recipe in RECIPES:
        for name, spec in _presets(48 if task.is_dry else 112).items():
            ours, oracle = (
                open_loader(
                    task.shards(recipe), spec, engine=engine, device=device, batch_size=videos
                )
                for engine, device in (("dali", str(task.device)), ("reference", "cpu"))
            )
            if task.device.type == "cuda":  # DALI places chroma in another way there
                oracle.engine = centred_engine(spec, batch_size=videos, num_workers=num_cpus())
            with ours, oracle:
                views = [next(loader.batches(0)).views for loader in (ours, oracle)]
            found[f"{recipe} {name}"] = _worst_view(*views)
            task.save(found)
    return found | {"passed": all(view["passed"] for view in found.values())}


def _presets(size_px: int) -> dict[str, ViewSpec]:
    return {
        "pretrain": stage_views.pretrain(size_px=size_px),
        "student": stage_views.finetune(size_px=size_px),
        "student_pair": stage_views.weak_strong(size_px=size_px),
        "similarity": stage_views.similarity(size_px=size_px),
        "eval": stage_views.evaluation(size_px=size_px, num_clips=3),
        "eval 3 crops": stage_views.evaluation(size_px=size_px, num_clips=1, num_crops=3),
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
    """Runs the tests of order, resume and layout; in a dry run some of them."""
    return _run_dali_tests(task, "order" if task.is_dry else "layout or resume or order or kept")


def faults(task: Task) -> Found:
    """Runs the tests of bad videos; in a dry run some of them."""
    return _run_dali_tests(task, "stops or changed" if task.is_dry else "bad or changed or blamed")


def tests(task: Task) -> Found:
    """Runs all tests that need a GPU; in a dry run they are skipped."""
    return _run_tests(task, "-m", "gpu", "tests")


def _run_dali_tests(task: Task, names: str) -> Found:
    """Runs the engine's tests of these names on this device, which is a parameter of theirs."""
    selection = f"({names}) and {task.device.type}"
    return _run_tests(task, "-m", "not slow", "-k", selection, "tests/loaders/engines/dali")


def _run_tests(task: Task, *selection: str) -> Found:
    """Runs pytest; returns the counts of its outcomes."""
    report = task.out.with_suffix(".xml")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", f"--junitxml={report}", *selection]
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


def training(task: Task) -> Found:
    """Runs `bench.train_step` if it is there."""
    if importlib.util.find_spec("bench.train_step") is None:
        return {"skipped": "there is no bench.train_step"}
    report = task.work / "train_step.json"
    command = [sys.executable, "-m", "bench.train_step", "--json", str(report)]
    command += ["--device", task.device.type, "--shards", str(task.shards("h264"))]
    if task.is_dry:
        command += ["--stages", "distinctive", "--variants", "loader"]
        command += ["--size", "32", "--batch-size", "2", "--rounds", "1", "--steps", "1"]
    else:
        command += ["--stages", "distinctive", "student", "--variants", "loader", "plain"]
        command += ["--size", "224"]
    limit_s = max(1.0, task.end_s - time.time())
    problem = {}
    try:
        subprocess.run(command, cwd=ROOT, timeout=limit_s, check=True, stdout=sys.stderr)
    except subprocess.SubprocessError as error:
        problem = {"problem": str(error).replace(str(task.work), "WORK"), "passed": False}
    figures = json.loads(report.read_text()) if report.exists() else None
    return {"figures": figures, **problem}


@dataclass(frozen=True, kw_only=True)
class Step:
    """The function of a step, and the share of the time that is kept for it."""

    run: Callable[[Task], Found]
    share: float


# They run in this order.
STEPS = {
    "environment": Step(run=environment, share=0.03),
    "capabilities": Step(run=capabilities, share=0.02),
    "shards": Step(run=store, share=0.08),
    "parity": Step(run=parity, share=0.12),
    "determinism": Step(run=determinism, share=0.06),
    "faults": Step(run=faults, share=0.06),
    "throughput": Step(run=throughput, share=0.34),
    "training": Step(run=training, share=0.2),
    "tests": Step(run=tests, share=0.09),
}
