"""`tb shard`, as typed."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shards.errors import InputError
from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tb.cli.shard import shard_app
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import make_set
from tests.tb.commands import complaint, tb


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five videos of 20 frames, 96 x 128."""
    return make_set(tmp_path_factory.mktemp("videos"))


def test_shard_folder_reports_what_it_did_and_what_it_left_out(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    for name in ("a/1", "a/2", "b/1", "b/2"):
        make_video(root / f"{name}.mp4", num_frames=8)
    damage.truncated(root / "a" / "cut.mp4")
    text = tb("shard", "folder", "--root", root, "--out", out, "--test-percent", 50)
    assert "4 videos, 2 classes, 1 shard" in text
    assert "1 video skipped, all listed in" in text
    assert "a/cut.mp4: truncated: " in text
    assert read_manifest(out).digest in text
    counts = [len(read_manifest(out).indices(split)) for split in ("train", "test")]
    assert f"split 1: {counts[0]} train, {counts[1]} test" in text
    assert "already done" in tb(
        "shard", "folder", "--root", root, "--out", out, "--test-percent", 50
    )
    make_video(tmp_path / "more" / "a" / "3.mp4", num_frames=9)
    words = ("shard", "folder", "--root", tmp_path / "more", "--min-per-class", 1)
    assert "5 videos, 2 classes, 2 shards" in tb(*words, "--out", out, "--append")


def test_shard_csv_with_all_options(videos: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "set.csv", tmp_path / "out"
    with table.open("w", newline="") as file:
        rows = [(path, path.parent.name) for path in sorted(videos.rglob("*.mp4"))]
        csv.writer(file).writerows([("path", "label"), *rows])
    options = "--seed 3 --workers 1 --short-side 64 --shard-mb 1 --max-seconds 0.4 --strict"
    arguments = ["csv", "--csv", table, "--out", out, *options.split()]
    mjpeg = ["--recipe", "mjpeg", "--quality", 9]
    assert "recipe mjpeg: it has no gop" in complaint("shard", *arguments, *mjpeg, "--gop", 4)
    tb("shard", *arguments, *mjpeg)
    video = read_manifest(out).video(0)
    assert (video.codec, video.height, video.num_frames) == ("mjpeg", 64, 10)
    arguments[arguments.index(out)] = other = tmp_path / "other"
    tb("shard", *arguments, "--recipe", "h264", "--quality", 30, "--gop", 4)
    manifest = read_manifest(other)
    with ShardReader(manifest) as reader:
        assert reader.read_window(0, 0, 9).byte_range.gop_frames == (0, 4, 8)


def test_shard_csv_cuts_segments_at_a_rate_and_adds_more_later(
    videos: Path, tmp_path: Path
) -> None:
    def table(*rows: str) -> Path:
        path = tmp_path / "set.csv"
        path.write_text("\n".join(["path,label,start_s,end_s", *rows]))
        return path

    path, out = videos / "jump" / "jump0.mp4", tmp_path / "out"
    rows = [f"{path},jump,0,0.4", f"{path},jump,0.4,0.8"]
    words = ["shard", "csv", "--csv", tmp_path / "set.csv", "--out", out, "--fps", 10]
    table(rows[0], rows[0].replace(",0,", ",nan,"))
    assert "line 3: start_s 'nan': give seconds" in complaint(*words)
    table(*rows)
    assert "recipe copy: it has no fps" in complaint(*words, "--recipe", "copy")
    tb(*words)
    assert read_manifest(out).num_frames.tolist() == [4, 4]
    digest = read_manifest(out).digest
    table(*rows, f"{path},jump,0.2,0.6")
    assert "add new videos with --append" in complaint(*words)
    text = tb(*words, "--append")
    assert f"added 1 video; the state before: {out}@{digest[:16]}" in text
    assert len(read_manifest(out)) == 3
    assert len(read_manifest(f"{out}@{digest[:16]}")) == 2
    assert "already done" in tb(*words, "--append")


def test_shard_ucf101(tmp_path: Path) -> None:
    root, out = tmp_path / "UCF-101", tmp_path / "out"
    for name in ("YoYo/v_YoYo_g01_c01", "YoYo/v_YoYo_g09_c01"):
        make_video(root / f"{name}.avi", num_frames=8, codec="mpeg4")
    text = tb("shard", "ucf101", "--root", root, "--out", out, "--recipe", "copy")
    assert "split 1: 1 train, 1 test" in text
    assert "split 3: 2 train" in text
    assert "2 videos without a packet index: the loader reads whole files" in text
    assert read_manifest(out).video(0).codec == "mpeg4"


@pytest.mark.parametrize("command", ["folder", "ucf101"])
def test_a_wrong_root_is_one_line(tmp_path: Path, command: str) -> None:
    root = tmp_path / "nowhere"
    assert f"{root}: no such folder" in complaint(
        "shard", command, "--root", root, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_a_wrong_side_is_one_line(videos: Path, tmp_path: Path) -> None:
    arguments = ("folder", "--root", videos, "--out", tmp_path / "out")
    assert "a multiple of 16" in complaint("shard", *arguments, "--short-side", "200")
    assert not (tmp_path / "out").exists()


def test_a_seed_below_zero_is_refused(videos: Path, tmp_path: Path) -> None:
    arguments = ["folder", "--root", str(videos), "--out", str(tmp_path / "out"), "--seed", "-1"]
    result = CliRunner().invoke(shard_app, arguments)
    assert result.exit_code == 2
    assert "--seed" in result.output
    with pytest.raises(InputError, match="seed: must be a whole number"):
        ingest(from_folder(videos), tmp_path / "out", seed=-1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file/sub", "x" * 300])
def test_an_out_that_cannot_be_made_is_one_line(videos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    message = complaint("shard", "folder", "--root", videos, "--out", tmp_path / name)
    assert message.startswith(str(tmp_path / name))
    assert "choose another --out" in message


def test_a_class_without_a_video_is_told(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    for name in ("a/1", "a/2"):
        make_video(root / f"{name}.mp4", num_frames=8)
    (root / "lost").mkdir()
    for index in range(2):
        damage.text(root / "lost" / f"{index}.mp4")
    for _ in range(2):
        text = tb("shard", "folder", "--root", root, "--out", out)
        assert "2 videos, 2 classes, 1 shard" in text
        assert "warning: 1 class without a video: lost" in text
        assert "lost/0.mp4: not a video" in text
        assert "may have passed" not in text
    assert "2 (1 without a video: lost)" in tb("data", "info", out)
    assert tb("data", "ls", out, "--class", "lost") == ""
    assert "no problems" in tb("data", "verify", out)
