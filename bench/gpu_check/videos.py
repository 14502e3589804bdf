"""Step `videos`: makes videos where none are given, and stores them with every recipe."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.task import RECIPES, CheckCell, Task, num_cores
from shards.encode.recipe import Recipe
from shards.files.publish import publish_file, unfinished_file
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder


def cells(task: Task) -> Iterator[CheckCell]:
    """The videos, then one cell for each recipe."""
    if task.videos is None:
        yield CheckCell(name="videos", run=partial(_make_videos, task))
    for recipe in RECIPES:
        yield CheckCell(name=recipe, run=partial(_store, task, recipe))


def _store(task: Task, recipe: str) -> CellFigures:
    chosen = Recipe(codec=recipe, short_side_px=144 if task.is_dry else 256)
    source = from_folder(task.videos or task.work / "videos", min_per_class=1)
    report = ingest(source, task.shards(recipe), recipe=chosen)
    return {
        "videos": report.num_videos,
        "skipped": report.num_skipped,
        "passed": report.num_videos > 0,
    }


def _make_videos(task: Task) -> CellFigures:
    """Textures that drift, 320x240, 80 to 200 frames; in a dry run fewer and shorter ones."""
    folder = task.work / "videos" / "made"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"v{seed:03d}.avi" for seed in range(2 if task.is_dry else 24)]
    make = partial(_make_video, num_frames=(70, 80) if task.is_dry else (80, 200))
    with ThreadPoolExecutor(num_cores()) as pool:
        list(pool.map(make, paths, range(len(paths))))
    return {"videos": len(paths)}


def _make_video(path: Path, seed: int, num_frames: tuple[int, int]) -> None:
    if path.exists():
        return
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:240, 0:320].astype(np.float32)
    waves, speed = rng.uniform(0.02, 0.4, (3, 2)), rng.uniform(0.05, 0.3, 3)
    with unfinished_file(path) as unfinished:
        with av.open(str(unfinished), "w", format="avi") as container:
            stream = container.add_stream("mpeg4", rate=25, options={"b": "2M"})
            stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
            for step in range(int(rng.integers(*num_frames))):
                channels = [
                    128 + 100 * np.sin(np.float32(down) * y + np.float32(right) * x + step * turn)
                    for (down, right), turn in zip(waves, speed.tolist(), strict=True)
                ]
                picture = np.stack(channels, axis=-1).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        publish_file(unfinished, path)
