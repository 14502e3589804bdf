"""A stride in seconds, from real files of several rates to the pixels of every engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders import Render, open_loader
from loaders.engines.choice import dali_is_installed
from loaders.plan.stage_views import evaluation, finetune, pretrain
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.loaders.engines.parity import assert_parity
from tests.made_once import made_once
from tests.make_videos import make_video
from tests.numbered import numbered_paint, read_number
from tests.paired import paired

HEIGHT, WIDTH = 96, 128
RATES = {"slow": 12, "usual": 25, "fast": 60}


def _made(factory: pytest.TempPathFactory, codec: str) -> Manifest:
    """Two seconds of each rate; frame i of a video shows the number i."""

    def make(root: Path) -> None:
        for name, fps in RATES.items():
            make_video(
                root / "videos" / "any" / f"{name}.mp4",
                num_frames=2 * fps,
                fps=fps,
                height=HEIGHT,
                width=WIDTH,
                paint=numbered_paint(HEIGHT, WIDTH),
            )
        recipe = Recipe(codec="copy") if codec == "copy" else Recipe(codec=codec)
        ingest(from_folder(root / "videos", min_per_class=1), root / "shards", recipe=recipe)

    return read_manifest(made_once(factory, f"rates-{codec}", make) / "shards")


@pytest.fixture(scope="session", params=["h264", "copy"])
def rates(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The videos as windows of shards (byte ranges), and as whole files."""
    return _made(tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The videos as windows of shards."""
    return _made(tmp_path_factory, "h264")


@pytest.mark.parametrize("engine", ["fused", "reference", "dali"])
@pytest.mark.usefixtures("place")
def test_pixels_show_the_frames_of_the_plan(rates: Manifest, engine: str) -> None:
    """The first clip of each video shows the moments 0, 0.2, 0.4, 0.6 s at every rate."""
    if engine == "dali" and not dali_is_installed():
        pytest.skip("dali is not installed")
    spec = evaluation(num_frames=4, stride=None, stride_s=0.2, size_px=64, num_clips=3)
    options: dict[str, Any] = {"engine": engine, "device": "cpu", "shuffle": False}
    num_read = 0
    with open_loader(rates, spec, batch_size=2, **options) as loader:
        for batch in loader.batches(0):
            for b, key in enumerate(batch.keys):
                if not key:
                    continue
                fps = float(rates.video(int(batch.plan.rows[b])).fps)
                expected = np.floor(np.arange(4) * 0.2 * fps + 0.5)
                np.testing.assert_array_equal(batch.plan.frames[b, 0], expected)
                grey = batch.views["clips"][b, :, 0].mean(dim=1) * 255  # (clips, T, H, W)
                for c, t in np.ndindex(*grey.shape[:2]):
                    # Views are a centre crop of 0.8; the numbers are laid out on whole pictures.
                    whole = np.pad(grey[c, t].numpy(), 8, mode="edge")
                    assert read_number(whole) == batch.plan.frames[b, c, t]
                    num_read += 1
    assert num_read == len(RATES) * 3 * 4


def test_engines_agree(windowed: Manifest, tmp_path: Path) -> None:
    spec = pretrain(num_frames=4, stride=None, stride_s=0.1, size_px=32)
    assert_parity(windowed, spec, tmp_path)


def test_render_shows_what_the_loader_shows(rates: Manifest) -> None:
    """The rate of a video comes from its header, or from the json of its sample."""
    spec = finetune(num_frames=4, stride=None, stride_s=0.11, size_px=16)
    render = Render(spec, seed=3)
    with (
        ShardReader(rates) as reader,
        open_loader(rates, spec, seed=3, device="cpu", batch_size=1) as loader,
    ):
        for (batch,) in paired(loader.batches(0)):
            (row,), (key,) = batch.plan.rows.tolist(), batch.keys
            video = rates.video(row)
            data, ours = reader.read(row), batch.views["clip"][0]
            assert torch.equal(render.views(data, key=row, epoch=0)["clip"], ours)
            rate = float(video.fps)
            assert torch.equal(render.views(data, key=row, epoch=0, fps=rate)["clip"], ours)
            assert not torch.equal(render.views(data, key=row, epoch=0, fps=rate / 2)["clip"], ours)
            by_row = Render(spec, seed=3, number=lambda _, row=row: row)  # type: ignore[misc]
            about = {"num_frames": video.num_frames, "fps": [video.fps_num, 2 * video.fps_den]}
            for json, is_same in ((b"{}", True), (about, False), (b"[", True), ({"fps": 3}, True)):
                sample = by_row({"__key__": key, "mp4": data, "json": json})
                assert torch.equal(sample["clip"], ours) == is_same


def test_bad_rates_are_named(windowed: Manifest) -> None:
    spec = finetune(stride=None, stride_s=0.03, size_px=16)
    message = r"stride_s is 0\.03, which is less than half a frame of 'slow' at 12 frames"
    with pytest.raises(InputError, match=message):
        open_loader(windowed, spec, device="cpu")
    with ShardReader(windowed) as reader:
        data = reader.read(windowed.row_of("slow"))
    render = Render(spec)
    with pytest.raises(InputError, match="less than half a frame of video 'a' at 12 frames"):
        render.views(data, key="a", epoch=0)
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match=f"fps is {fps}: give the video's frames per second"):
            render.views(data, key="a", epoch=0, fps=fps)
    with pytest.raises(InputError, match="video 'a' has no known frame rate: give its fps"):
        render.footage(data, 24, (HEIGHT, WIDTH), key="a", epoch=0)
