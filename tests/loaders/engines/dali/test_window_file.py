"""The file of a window plays like the window, for FFmpeg too."""

import io
from pathlib import Path

import av
import numpy as np
import pytest

from loaders.engines.dali.window_file import window_file
from shards.encode.recipe import Recipe
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.make_videos import make_video


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mjpeg"])
def test_a_window_is_a_file_of_its_own(codec: str, tmp_path: Path) -> None:
    make_video(tmp_path / "videos" / "a" / "v.mp4", num_frames=70, height=144, width=192)
    dataset = from_folder(tmp_path / "videos", min_per_class=1)
    ingest(
        dataset,
        tmp_path / "shards",
        recipe=Recipe(codec=codec, gop=None if codec == "mjpeg" else 12),
        workers=1,
    )
    manifest = read_manifest(tmp_path / "shards")
    with ShardReader(manifest) as reader:
        whole = _pictures(reader.read(0))
        assert len(whole) == 70
        for first, last in [(0, 0), (11, 12), (20, 50), (69, 69), (0, 69)]:
            window = reader.read_window(0, first, last)
            pictures = _pictures(window_file(window))
            begin = window.byte_range.gop_frames[0]
            assert len(pictures) == len(window.byte_range.offsets) - 1
            assert begin <= first
            assert begin + len(pictures) > last
            promised = whole[begin : begin + len(pictures)]
            for ours, theirs in zip(pictures, promised, strict=True):
                np.testing.assert_array_equal(ours, theirs)


def _pictures(data: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]
