"""Sources from class folders, and the messages if the folders have a mistake."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from shards.sources.folder import from_folder
from tests.shards.helpers import fault_of, first_splits, pairs, touch

T = TypeVar("T")


def test_labels_are_alphabetical_without_case(tmp_path: Path) -> None:
    dataset = from_folder(touch(tmp_path, *pairs(2, "JumpRope", "JumpingJack", "archery")))
    assert dataset.classes == ("archery", "JumpingJack", "JumpRope")
    classes = [dataset.classes[source.label] for source in dataset.sources]
    assert classes == [source.path.parent.name for source in dataset.sources]
    assert len(classes) == 6


def test_names_that_are_not_unicode_become_readable(tmp_path: Path) -> None:
    root = touch(tmp_path / os.fsdecode(b"s\xe9t"), *pairs(2, os.fsdecode(b"caf\xe9"), "tea"))
    dataset = from_folder(root)
    message = fault_of(from_folder, root, min_per_class=3)
    assert "class 'caf\\\\xe9' has 2 videos" in message
    assert dataset.name == "s\\xe9t"
    assert dataset.classes == ("caf\\xe9", "tea")
    assert [dataset.classes[source.label] for source in dataset.sources] == [
        source.name.partition("/")[0] for source in dataset.sources
    ]


def test_split_folders(tmp_path: Path) -> None:
    names = [f"{s}/{n}" for s in ("train", "Validation", "test") for n in pairs(2, "a", "b")]
    assert first_splits(from_folder(touch(tmp_path, *names))) == {"train": 4, "val": 4, "test": 4}


@pytest.mark.parametrize(("percent", "num_test"), [(0, 0), (1, 1), (30, 3), (50, 5), (99, 9)])
def test_test_percent_takes_its_share_of_every_class(
    tmp_path: Path, percent: float, num_test: int
) -> None:
    dataset = from_folder(touch(tmp_path, *pairs(10, "a", "b")), test_percent=percent)
    tests = Counter(source.label for source in dataset.sources if source.splits == ("test",))
    assert tests == Counter({0: num_test, 1: num_test}) + Counter()


def test_links_out_of_the_root_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.mp4")
    root = touch(tmp_path / "set", "a/0.mp4", "b/0.mp4")
    (root / "a" / "1.mp4").symlink_to(tmp_path / "elsewhere" / "1.mp4")
    (root / "a" / "inside.mp4").symlink_to(root / "b" / "0.mp4")
    (root / "a" / "inside").symlink_to(root / "b")
    refusals = {
        s.path.name: s.refusal for s in from_folder(root, min_per_class=1).sources if s.refusal
    }
    assert set(refusals) == {"1.mp4"}
    assert "--follow-links" in refusals["1.mp4"]
    assert not any(s.refusal for s in from_folder(root, min_per_class=1, follow_links=True).sources)


def _recording(function: Callable[..., T], listed: set[str]) -> Callable[..., T]:
    """The function, which also records the real path of the folder that it lists."""

    def call(folder: str | Path = ".") -> T:
        listed.add(os.path.realpath(folder))
        return function(folder)

    return call


@pytest.mark.parametrize("place", ["a/deep/er", "b", "train", "val"])
def test_a_folder_out_of_the_root_is_never_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    elsewhere = touch(tmp_path / "elsewhere", "v/1.mp4")
    names = ["train/c/0.mp4", "test/c/0.mp4"] if place in ("train", "val") else ["a/0.mp4"]
    root = touch(tmp_path / "set", *(name for name in names if not name.startswith(place)))
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(elsewhere)
    listed: set[str] = set()
    for function in (os.scandir, os.listdir):
        monkeypatch.setattr(os, function.__name__, _recording(function, listed))
    message = fault_of(from_folder, root, min_per_class=1)
    assert message == (
        f"{root / place}: a link out of the root; allow it with --follow-links, or remove it"
    )
    assert os.path.realpath(root) in listed
    assert os.path.realpath(elsewhere) not in listed
    assert from_folder(root, min_per_class=1, follow_links=True).sources
    assert os.path.realpath(elsewhere) in listed


def test_a_root_that_is_a_link_is_no_link_out_of_the_root(tmp_path: Path) -> None:
    touch(tmp_path / "set", *pairs(2, "a"))
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert not any(source.refusal for source in from_folder(tmp_path / "link").sources)


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (None, {}, "no such folder; check the root"),
        ([], {}, "is empty; put one folder per class"),
        (["x.mp4"], {}, "holds 1 video but no class folders"),
        (["notes.txt"], {}, "holds files but no class folders"),
        (["a/1.mp4", "a/2.mp4", "x.mp4"], {}, "x.mp4: lies outside any class folder"),
        (["a/1.mp4"], {}, "class 'a' has 1 video, needs 2: add videos or remove the class, or"),
        (["a/1.mp4", "a/2.mp4", "b/notes.txt"], {}, "class 'b' has 0 videos"),
        (
            ["train/a/1.mp4"],
            {"test_percent": 5},
            "folders (train), so the test percentage",
        ),
        (["val/a/1.mp4", "valid/a/2.mp4"], {}, "val means the same split"),
        (["a/1.mp4"], {"test_percent": 100}, "test percent 100"),
        (pairs(2, "a", "b"), {"seed": 3}, "seed is 3, but without test_percent nothing is drawn"),
        (["a/1.mp4"], {"test_percent": 9, "min_per_class": 1}, "cannot be both train and test"),
    ],
)
def test_folders_that_are_not_a_data_set(
    tmp_path: Path, names: list[str] | None, options: dict[str, float], expected: str
) -> None:
    root = tmp_path / "set"
    if names is not None:
        root.mkdir()
        touch(root, *names)
    message = fault_of(from_folder, root, **options)
    assert expected in message
    assert str(root) in message or message.startswith("--")


def test_a_file_is_not_a_root(tmp_path: Path) -> None:
    assert "is a file; the root is the folder" in fault_of(from_folder, touch(tmp_path, "x") / "x")


def test_one_video_is_enough_where_one_says_so(tmp_path: Path) -> None:
    assert len(from_folder(touch(tmp_path, "a/1.mp4"), min_per_class=1).sources) == 1
