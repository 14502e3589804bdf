"""A sample is the same each time, comes from all parts of the set, and scales to the whole."""

from pathlib import Path

import pytest

from shards.errors import InputError
from shards.sources.folder import from_folder
from shards.sources.source import Dataset
from shards.sources.table import from_csv
from tb.advice.sample import draw_sample


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Four classes of six files of 1 to 6 bytes in split folders; listing does not open them."""
    root = tmp_path_factory.mktemp("set")
    for split in ("test", "train"):
        for name in "abcd":
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                size = index + 1 + 3 * (split == "test")
                (root / split / name / f"{name}{index}{split}.mp4").write_bytes(bytes(size))
    return from_folder(root)


def test_the_same_videos_each_time_from_all_parts(dataset: Dataset) -> None:
    sample = draw_sample(dataset, 8)
    assert draw_sample(dataset, 8) == sample
    folders = {source.path.parent for source in sample.dataset.sources}
    assert len(folders) == len(sample.dataset.sources) == 8  # one of each class and split
    assert {source.splits for source in sample.dataset.sources} == {("train",)}
    assert sample.dataset.classes == dataset.classes


def test_sizes_of_the_sample_and_of_all(dataset: Dataset) -> None:
    sample = draw_sample(dataset, 5)
    assert (sample.num_videos, sample.num_bytes) == (24, 4 * 21)
    files = [source.path for source in sample.dataset.sources]
    assert sample.source_bytes() == sum(path.stat().st_size for path in files)
    keys = [source.key for source in sample.dataset.sources]
    assert [source.key for source in sample.without({keys[0]}).sources] == keys[1:]


def test_a_sample_is_at_most_the_whole(dataset: Dataset) -> None:
    sample = draw_sample(dataset, 1000)
    assert [source.key for source in sample.dataset.sources] == [s.key for s in dataset.sources]
    with pytest.raises(InputError, match=r"videos is 0 \(--videos\)"):
        draw_sample(dataset, 0)


def test_links_out_of_the_root_are_not_tried(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "set" / "a").mkdir(parents=True)
    (tmp_path / "set" / "a" / "link.mp4").symlink_to(tmp_path / "a.mp4")
    dataset = from_folder(tmp_path / "set", min_per_class=1)
    with pytest.raises(InputError, match="no videos to try"):
        draw_sample(dataset, 3)
    (tmp_path / "set" / "a" / "file.mp4").touch()
    sample = draw_sample(from_folder(tmp_path / "set", min_per_class=1), 3)
    assert [source.path.name for source in sample.dataset.sources] == ["file.mp4"]
    assert sample.num_videos == 1


def test_segments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "set.csv").write_text("path,label,start_s\na.mp4,x,1\n")
    with pytest.raises(InputError, match="set: has segments"):
        draw_sample(from_csv(tmp_path / "set.csv", min_per_class=1), 1)
