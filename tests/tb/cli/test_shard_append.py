"""New files in the folder are added by the same command with --append, as in docs/start.md."""

import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from shards.format.manifest import Manifest, read_manifest
from shards.verification import verify
from tests.make_videos import make_video
from tests.shards.helpers import files_in, make_set
from tests.tb.commands import complaint, start, tb


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of five videos."""
    return make_set(tmp_path_factory.mktemp("videos") / "set")


@pytest.fixture
def root(videos: Path, tmp_path: Path) -> Path:
    """A copy of them, to put more files into."""
    return Path(shutil.copytree(videos, tmp_path / "videos"))


def words(root: Path, out: Path, *more: object) -> tuple[object, ...]:
    """The command of docs/start.md, with small pictures."""
    return ("shard", "folder", "--root", root, "--out", out, "--short-side", 64, *more)


def add(root: Path, class_name: str, *numbers: int) -> None:
    """Puts new videos into a class folder. Names that come first show that order is no matter."""
    for number in numbers:
        make_video(root / class_name / f"a{number}.mp4", num_frames=8, seed=100 + number)


def splits(manifest: Manifest) -> dict[str, str]:
    """Source -> its split."""
    return {video.source: video.splits[0] for video in manifest.select()}


def num_test(manifest: Manifest, class_name: str) -> int:
    return Counter(
        name.split("/")[0] for name, split in splits(manifest).items() if split == "test"
    )[class_name]


def test_the_same_command_with_append_adds_what_is_new(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = words(root, out, "--test-percent", 20)
    tb(*command)
    before, old = files_in(out), read_manifest(out)
    for numbers, wanted in (((0, 1), 1), (tuple(range(2, 10)), 3)):
        add(root, "jump", *numbers)
        earlier = read_manifest(out).digest
        text = tb(*command, "--append")
        assert f"the state before: {out}@{earlier[:16]}" in text
        now = read_manifest(out)
        assert splits(now).items() >= splits(old).items()
        assert num_test(now, "jump") == wanted  # 20 % of 7 videos, and of 15
        assert num_test(now, "spin") == 1
        assert read_manifest(f"{out}@{old.digest}").table.equals(old.table)
    after = files_in(out)
    assert all(after[name] == before[name] for name in before if name.startswith("shard-"))
    assert verify(out, decode=True) == []
    assert "already done" in tb(*command, "--append")
    assert files_in(out) == after


def test_without_a_percentage_new_videos_are_for_training(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tb(*words(root, out, "--test-percent", 40))
    old = splits(read_manifest(out))
    add(root, "spin", 0, 1)
    assert "added 2 videos" in tb(*words(root, out, "--append"))
    new = {"spin/a0.mp4": "train", "spin/a1.mp4": "train"}
    assert splits(read_manifest(out)) == old | new


def test_what_folders_say_is_not_drawn(root: Path, tmp_path: Path) -> None:
    """A video that moved to another split folder is in the set already."""
    (tmp_path / "split").mkdir()
    root.rename(tmp_path / "split" / "train")
    root, out = tmp_path / "split", tmp_path / "out"
    for class_name in ("spin", "jump"):
        make_video(root / "test" / class_name / "t.mp4", num_frames=8, seed=200)
        make_video(root / "test" / class_name / "u.mp4", num_frames=8, seed=201)
    tb(*words(root, out))
    old = splits(read_manifest(out))
    (root / "train" / "spin" / "spin0.mp4").rename(root / "test" / "spin" / "spin0.mp4")
    make_video(root / "test" / "spin" / "v.mp4", num_frames=8, seed=202)
    text = tb(*words(root, out, "--append"))
    assert "test/spin/spin0.mp4: the same video is in the set, as spin0" in text
    assert splits(read_manifest(out)) == old | {"test/spin/v.mp4": "test"}
    assert "leave it out" in complaint(*words(root, out, "--test-percent", 20, "--append"))


def test_after_kill_9_the_same_command_completes_the_set(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = words(root, out, "--test-percent", 30)
    tb(*command)
    old = read_manifest(out).digest
    whole = Path(shutil.copytree(out, tmp_path / "whole"))
    add(root, "jump", *range(8))
    tb(*words(root, whole, "--test-percent", 30, "--append"))
    child = start(*command, "--append", folder=tmp_path)
    while not (out / ".ingest" / "settings.json").exists():
        assert child.is_alive()
        time.sleep(0.002)
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert read_manifest(out).digest == old
    tb(*command, "--append")
    assert files_in(out) == files_in(whole)
