"""`tb data info`, `verify`, `ls` and `show`, as typed."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.cli.data import data_app
from tests.make_videos import make_video
from tests.shards.helpers import make_set
from tests.tb.commands import complaint, tb


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Two classes of five videos of 20 frames, 96 x 128, in several shards."""
    videos, out = make_set(tmp_path_factory.mktemp("videos")), tmp_path_factory.mktemp("shards")
    ingest(from_folder(videos), out, shard_bytes=100_000)
    return read_manifest(out)


def test_data_info(manifest: Manifest) -> None:
    text = tb("data", "info", manifest.root)
    for expected in ("10 (0 skipped)", "25 fps", "128x96", "h264", "jump", "spin", manifest.digest):
        assert expected in text
    assert "10 of 10 videos" in text


def test_data_verify(manifest: Manifest, tmp_path: Path) -> None:
    text = tb("data", "verify", manifest.root, "--decode")
    assert "10 videos decoded and compared, no problems" in text
    for path in manifest.root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / manifest.shard_names[0]).unlink()
    result = CliRunner().invoke(data_app, ["verify", str(tmp_path)])
    assert result.exit_code == 1
    assert f"{manifest.shard_names[0]}: No such file" in result.stdout
    assert "1 problem in" in result.stderr


def test_data_ls(manifest: Manifest) -> None:
    lines = [line.split("\t") for line in tb("data", "ls", manifest.root).splitlines()]
    assert [line[0] for line in lines] == manifest.keys
    assert lines[0][3:6] == ["20", "25", "128x96"]
    some = tb("data", "ls", manifest.root, "--class", "spin", "--split", "train")
    assert len(some.splitlines()) == 5
    assert tb("data", "ls", manifest.root, "--split", "test") == ""
    assert "no class 'spun'" in complaint("data", "ls", manifest.root, "--class", "spun")
    assert "without a split" in complaint("data", "ls", manifest.root, "--split-number", 2)


def test_data_show_draws_frames_in_order(tmp_path: Path) -> None:
    """Frames that brighten make tiles that brighten."""

    def paint(index: int) -> np.ndarray:
        return np.full((96, 128, 3), 20 + 10 * index, np.uint8)

    make_video(tmp_path / "set" / "a" / "up.mp4", num_frames=20, paint=paint)
    ingest(from_folder(tmp_path / "set", min_per_class=1), tmp_path / "out")
    png = tmp_path / "sheet.png"
    text = tb("data", "show", tmp_path / "out", "up", "--png", png, "--num-tiles", 4)
    for expected in ("num_frames    20", "class         a", "source        a/up.mp4", str(png)):
        assert expected in text
    sheet = np.asarray(Image.open(png).convert("L")).astype(int)
    height, width = sheet.shape
    middles = [sheet[height * y // 4, width * x // 4] for y in (1, 3) for x in (1, 3)]
    assert middles == sorted(middles)
    assert np.allclose(middles, [20 + 10 * index for index in (0, 6, 13, 19)], atol=4)


def test_data_show_of_an_unknown_key(manifest: Manifest, tmp_path: Path) -> None:
    assert "did you mean spin3?" in complaint("data", "show", manifest.root, "spin33")
    assert "tb data ls" in complaint("data", "show", manifest.root, "zzz")
    drawn = complaint("data", "show", manifest.root, manifest.keys[0], "--num-tiles", 3)
    assert "--num-tiles is 3, and nothing is drawn" in drawn
    arguments = ("show", manifest.root, "spin3", "--png", tmp_path / "no" / "x.png")
    assert "No such file" in complaint("data", *arguments)


@pytest.mark.parametrize("command", ["info", "verify", "ls"])
def test_looking_at_what_is_no_shards_folder(tmp_path: Path, command: str) -> None:
    assert "not a shards folder" in complaint("data", command, tmp_path)
