"""Kinetics-400 on trees of empty files, and by its official lists if these are available."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.kinetics400 import from_kinetics400
from tests.make_videos import make_video
from tests.shards.helpers import fault_of, touch

_TRAIN = """label,youtube_id,time_start,time_end,split
playing guitar,abcdefghijk,72,82,train
playing guitar,-bcdefghij_,0,10,train
"bending, metal",ccccccccccc,5,15,train
zumba,ddddddddddd,1,11,train
"""
_VAL = "label,youtube_id,time_start,time_end\nzumba,eeeeeeeeeee,8,18\n"


def _kinetics(tmp_path: Path) -> tuple[Path, list[Path]]:
    root = touch(
        tmp_path / "set",
        "train/playing_guitar/abcdefghijk_000072_000082.mp4",
        "train/playing_guitar/-bcdefghij__000000_000010.webm",
        "val/ccccccccccc.mp4",
        "val/eeeeeeeeeee_8_18.mkv",
        "val/fffffffffff_000001_000011.mp4",
    )
    lists = [tmp_path / "kinetics_train.csv", tmp_path / "kinetics_validate.csv"]
    for path, text in zip(lists, (_TRAIN, _VAL), strict=True):
        path.write_text(text)
    return root, lists


def test_kinetics_by_its_lists_whatever_the_layout(tmp_path: Path) -> None:
    root, lists = _kinetics(tmp_path)
    dataset = from_kinetics400(root, lists)
    assert dataset.classes == ("bending, metal", "playing guitar", "zumba")
    found = {s.group: (dataset.classes[s.label], *s.splits) for s in dataset.sources}
    assert found == {
        "abcdefghijk": ("playing guitar", "train"),
        "-bcdefghij_": ("playing guitar", "train"),
        "ccccccccccc": ("bending, metal", "train"),
        "eeeeeeeeeee": ("zumba", "val"),
    }
    assert dataset.missing == ("zumba/ddddddddddd_000001",)
    assert dataset.notes == ("1 video on disk in no list",)


@pytest.mark.parametrize(
    "others",
    [
        ["val/playing_guitar/abcdefghijk_000072_000082.mp4"],
        ["train/playing_guitar/abcdefghijk_000072_000082.webm"],
        ["abcdefghijk_72_82.mp4", "abcdefghijk_72.mp4"],
        ["abcdefghijk.mp4", "abcdefghijk.webm"],
    ],
)
def test_several_files_of_one_video_are_named(tmp_path: Path, others: list[str]) -> None:
    root, lists = _kinetics(tmp_path)
    touch(root, *others)
    message = fault_of(from_kinetics400, root, lists)
    assert "1 of the listed videos have more than one file" in message
    for name in ["train/playing_guitar/abcdefghijk_000072_000082.mp4", *others]:
        assert str(root / name) in message


def test_every_file_that_no_list_names_is_counted(tmp_path: Path) -> None:
    root, lists = _kinetics(tmp_path)
    # Another start of a listed video, and one file name in three folders.
    touch(root, "abcdefghijk_000099_000109.mp4", "a/x.mp4", "b/x.mp4", "c/x.mp4")
    dataset = from_kinetics400(root, lists)
    assert len(dataset.sources) == 4
    assert dataset.notes == ("5 videos on disk in no list",)


def test_missing_downloads_are_counted_and_listed(tmp_path: Path) -> None:
    root, lists = _kinetics(tmp_path)
    for index, path in enumerate(sorted(root.rglob("*.*"))):
        make_video(
            path, num_frames=4, seed=index, codec="libvpx" if "w" in path.suffix else "mpeg4"
        )
    report = ingest(from_kinetics400(root, lists), tmp_path / "out", strict=True)
    assert (report.num_videos, report.num_skipped, report.num_missing) == (4, 0, 1)
    text = (tmp_path / "out" / "skipped.jsonl").read_text()
    assert "zumba/ddddddddddd_000001" in text
    assert "missing: in the lists, not on disk" in text
    assert Counter(read_manifest(tmp_path / "out").labels.tolist()) == {0: 1, 1: 2, 2: 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("youtube_id,time_start\na,1\n", "no column 'label'"),
        ("label,youtube_id,time_start\n", "has no rows"),
        ("label,youtube_id,time_start\nx,a,1\n", "line 2: no split"),
        ("label,youtube_id,time_start,split\nx,a,soon,train\n", "time_start 'soon'"),
        ("label,youtube_id,time_start,split\nx,a,1,train\ny,a,1,val\n", "y/a_000001: already in"),
        (
            "label,youtube_id,time_start,split\nx,a,1,train\n",
            "none of the listed videos (1), e.g. x/a",
        ),
    ],
)
def test_kinetics_lists_with_a_mistake(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    root = touch(tmp_path / "set", "a/zzzzzzzzzzz_000001_000011.mp4")
    assert expected in fault_of(from_kinetics400, root, [path])


def test_kinetics_classes_in_public_order(shared: Callable[[str], Path], tmp_path: Path) -> None:
    name = "kinetics400_train_10_percent_labeled_videos.txt"
    lines = shared(f"labels/videossl_lambertx/data/kinetics400/videossl_splits/{name}")
    rows = [line.split() for line in lines.read_text().splitlines()[::6]]
    table = ["label,youtube_id,time_start,time_end,split"]
    for path, _ in rows:
        class_name, _, stem = path.partition("/")
        video_id, start, end = stem.removesuffix(".mp4").rsplit("_", 2)
        table.append(f"{class_name.replace('_', ' ')},{video_id},{int(start)},{int(end)},train")
    (tmp_path / "train.csv").write_text("\n".join(table))
    root = touch(tmp_path / "set", *(path for path, _ in rows))
    dataset = from_kinetics400(root, [tmp_path / "train.csv"])
    assert (len(dataset.sources), len(dataset.classes), dataset.missing) == (4000, 400, ())
    label_of = {path.rpartition("/")[2]: int(label) for path, label in rows}
    wrong = [s for s in dataset.sources if label_of[s.path.name] != s.label]
    assert wrong == []
