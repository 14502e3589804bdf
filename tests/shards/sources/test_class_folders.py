"""Which videos lie in a tree of class folders."""

from pathlib import Path

from shards.sources.folder import from_folder
from tests.shards.helpers import first_splits, pairs, touch


def test_only_videos_count_at_any_depth(tmp_path: Path) -> None:
    names = ["a/1.mp4", "a/deep/er/2.AVI", "a/.hidden.mp4", "a/3.txt", ".git/x.mp4", "README.md"]
    dataset = from_folder(touch(tmp_path, *names))
    assert [source.path.name for source in dataset.sources] == ["1.mp4", "2.AVI"]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = from_folder(touch(tmp_path, *pairs(2, "train", "bus")))
    assert dataset.classes == ("bus", "train")
    assert first_splits(dataset) == {"train": 4}


def test_links_that_go_round_in_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, *pairs(2, "a"))
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(from_folder(tmp_path).sources) == 2
