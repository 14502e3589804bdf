"""Clips of public sets: all are stored in full."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from shards.sources.table import from_csv
from shards.verification import verify


def _count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize("codec", ["h264", "copy"])
def test_every_public_clip_is_stored_in_full(
    shared: Callable[[str], Path], tmp_path: Path, codec: str
) -> None:
    root = shared("videos")
    dataset = from_folder(root)
    recipe = Recipe(codec=codec, short_side_px=None if codec == "copy" else 128)
    report = ingest(dataset, tmp_path / "out", recipe=recipe)
    assert not (tmp_path / "out" / SKIPPED_NAME).exists()
    assert report.num_videos == len(dataset.sources) > 20
    assert verify(tmp_path / "out", decode=True) == []
    manifest = read_manifest(tmp_path / "out")
    for index in range(len(manifest)):
        video = manifest.video(index)
        if "unordered" not in video.source:  # its timestamps have gaps, which are filled
            assert video.num_frames == _count_frames(root / video.source), video.source
    sizes = {v.source: (v.height, v.width) for v in map(manifest.video, range(len(manifest)))}
    if codec == "h264":
        upright = "odd/video_90.mov"
        assert sizes[upright][0] > sizes[upright][1]
        assert sizes["odd/video_0.mov"][0] < sizes["odd/video_0.mov"][1]


def test_headers_that_overstate_do_not_count(shared: Callable[[str], Path], tmp_path: Path) -> None:
    table = shared("realset/jhmdb10.csv")
    lines = table.read_text().splitlines()
    some = tmp_path / "some.csv"
    rows = [f"{table.parent}/{line}" for line in lines[1:] if line.split(",")[1] in ("golf", "sit")]
    some.write_text("\n".join([lines[0], *rows[::4]]))
    ingest(from_csv(some), tmp_path / "out", recipe=Recipe(short_side_px=64, quality=40))
    assert not (tmp_path / "out" / SKIPPED_NAME).exists()
    manifest = read_manifest(tmp_path / "out")
    assert len(manifest) == len(rows[::4])
    for index in range(len(manifest)):
        video = manifest.video(index)
        with av.open(str(some.parent / video.source)) as container:
            promised = container.streams.video[0].frames
        assert video.num_frames == _count_frames(some.parent / video.source) < promised


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gestures", "jhmdb10"])
def test_whole_labelled_sets(shared: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    dataset = from_csv(shared(f"realset/{name}.csv"))
    report = ingest(dataset, tmp_path / "out", recipe=Recipe(short_side_px=128))
    lines = (tmp_path / "out" / SKIPPED_NAME).read_text() if report.num_skipped else ""
    assert [json.loads(line)["reason"] for line in lines.splitlines()] == []
    assert report.num_videos == len(dataset.sources)
    assert verify(tmp_path / "out", decode=True) == []
