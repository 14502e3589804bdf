"""The public data sets, on trees of empty files; on the official lists where these are at hand."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.hmdb51 import from_hmdb51
from shards.sources.kinetics400 import from_kinetics400
from shards.sources.source import Dataset
from shards.sources.ucf101 import from_ucf101
from tests.make_videos import make_video
from tests.shards.helpers import fault_of, touch


def _counts(dataset: Dataset) -> list[tuple[int, int]]:
    """(train, test) of every split number."""
    return [
        (splits.count("train"), splits.count("test"))
        for splits in zip(*(source.splits for source in dataset.sources), strict=True)
    ]


# UCF101


def _ucf(*names: str) -> list[str]:
    return [f"{name.split('_')[1]}/{name}.avi" for name in names]


def test_ucf101_needs_no_lists(tmp_path: Path) -> None:
    names = _ucf("v_Archery_g01_c01", "v_Archery_g08_c02", "v_YoYo_g15_c01", "v_YoYo_g25_c03")
    dataset = from_ucf101(
        touch(tmp_path, *names, "HandstandPushups/v_HandStandPushups_g01_c01.avi")
    )
    assert dataset.classes == ("Archery", "HandstandPushups", "YoYo")
    by_key = {source.key: source for source in dataset.sources}
    assert by_key["v_Archery_g01_c01"].splits == ("test", "train", "train")
    assert by_key["v_Archery_g08_c02"].splits == ("train", "test", "train")
    assert by_key["v_YoYo_g15_c01"].splits == ("train", "train", "test")
    assert by_key["v_YoYo_g25_c03"].splits == ("train", "train", "train")
    assert by_key["v_YoYo_g25_c03"].group == "YoYo_g25"
    assert dataset.notes == ("not all of UCF101: 3 of 101 classes, 5 of 13320 videos",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["UCF-101/YoYo/v_YoYo_g01_c01.avi"], "further down; give --root {root}/UCF-101"),
        (["wave/Movie_wave_f_nm_np1_fr_med_26.avi"], "looks like HMDB51: class folders hold"),
        (["abseiling/abcdefghijk_000001_000011.mp4"], "looks like Kinetics400"),
        (["train/a/1.mp4"], "holds split folders"),
        (["a/1.mp4", "b/2.mp4"], "looks like plain class folders (e.g. 1.mp4)"),
        (["UCF101.rar"], "holds packed files (e.g. UCF101.rar); unpack them first"),
        (["a/notes.txt"], "it holds no videos"),
        ([*_ucf("v_YoYo_g01_c01"), "YoYo/extra.avi"], "extra.avi: the name does not fit"),
        (["Archery/v_YoYo_g01_c01.avi"], "does not fit UCF101's v_Archery_gNN_cNN"),
        (_ucf("v_YoYo_g26_c01"), "groups run from 1 to 25"),
        ([*_ucf("v_YoYo_g01_c01"), "Archery/notes.txt"], "class 'Archery' has 0 video(s)"),
    ],
)
def test_what_is_not_ucf101(tmp_path: Path, names: list[str], expected: str) -> None:
    root = tmp_path / "set"
    assert expected.format(root=root) in fault_of(from_ucf101, touch(root, *names))


def test_all_of_ucf101_by_rule_and_by_list(shared: Callable[[str], Path], tmp_path: Path) -> None:
    lists = shared("labels/ucf101_official/data/ucfTrainTestlist")
    lines = [
        line.split()[0]
        for split in ("train", "test")
        for line in (lists / f"{split}list01.txt").read_text().splitlines()
    ]
    root = touch(tmp_path, *lines)
    by_rule, by_list = from_ucf101(root), from_ucf101(root, lists)
    assert by_rule == by_list
    assert _counts(by_rule) == [(9537, 3783), (9586, 3734), (9624, 3696)]
    indices = dict(line.split()[::-1] for line in (lists / "classInd.txt").read_text().splitlines())
    assert [int(indices[name]) - 1 for name in by_rule.classes] == list(range(101))
    assert (by_rule.missing, by_rule.notes) == ((), ())
    (root / lines[0]).unlink()
    assert from_ucf101(root, lists).missing == (lines[0].removesuffix(".avi"),)


def test_ucf101_lists_that_disagree_with_the_rule(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", *_ucf("v_YoYo_g01_c01", "v_YoYo_g09_c01"))
    lists = touch(tmp_path / "lists")
    assert "trainlist01.txt: No such file" in fault_of(from_ucf101, root, lists)
    for number in (1, 2, 3):
        touch(lists, f"trainlist0{number}.txt", f"testlist0{number}.txt")
    (lists / "trainlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi 1\n")
    message = fault_of(from_ucf101, root, lists)
    assert "YoYo/v_YoYo_g01_c01: the lists" in message
    assert "the official rule" in message


# HMDB51


def _hmdb_lists(folder: Path, lines: dict[str, tuple[int, int, int]]) -> Path:
    folder.mkdir()
    for number in range(3):
        text = "".join(f"{name}.avi {codes[number]} \n" for name, codes in lines.items())
        (folder / f"wave_test_split{number + 1}.txt").write_text(text)
    return folder


_WAVES = {
    "50_FIRST_DATES_wave_f_cm_np1_fr_med_0": (1, 2, 0),
    "A_(movie)!_wave_wave_u_nm_np2_ba_bad_12": (2, 0, 1),
}


def test_hmdb51_from_its_lists(tmp_path: Path) -> None:
    lists = _hmdb_lists(tmp_path / "lists", _WAVES)
    root = touch(tmp_path / "set", *(f"wave/{name}.avi" for name in _WAVES))
    dataset = from_hmdb51(root, lists)
    assert {s.group: s.splits for s in dataset.sources} == {
        "50_FIRST_DATES": ("train", "test", ""),
        "A_(movie)!_wave": ("test", "", "train"),
    }
    for path in root.glob("wave/*.avi"):
        make_video(path, num_frames=4, codec="mpeg4")
    ingest(dataset, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    for number, (num_train, num_pool) in enumerate([(1, 1), (0, 1), (1, 2)], start=1):
        assert len(manifest.indices("train", number)) == num_train
        assert len(manifest.indices("pool", number)) == num_pool
    (root / "wave" / "50_FIRST_DATES_wave_f_cm_np1_fr_med_0.avi").unlink()
    assert from_hmdb51(root, lists).missing == ("wave/50_FIRST_DATES_wave_f_cm_np1_fr_med_0",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (_ucf("v_YoYo_g01_c01"), "looks like UCF101: class folders hold v_Class_gNN_cNN.avi"),
        (["all/wave/M_wave_f_nm_np1_fr_med_2.avi"], "further down; give --root {root}/all"),
        (["wave.rar"], "holds packed files (e.g. wave.rar)"),
        (["wave/New_wave_f_nm_np1_fr_med_26.avi"], "not in wave_test_splitN.txt"),
    ],
)
def test_what_is_not_hmdb51(tmp_path: Path, names: list[str], expected: str) -> None:
    lists, root = _hmdb_lists(tmp_path / "lists", _WAVES), tmp_path / "set"
    assert expected.format(root=root) in fault_of(from_hmdb51, touch(root, *names), lists)


def test_hmdb51_lists_that_are_none(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", *(f"wave/{name}.avi" for name in _WAVES))
    assert "takes the folder of HMDB51's 153" in fault_of(from_hmdb51, root, touch(tmp_path / "no"))
    lists = _hmdb_lists(tmp_path / "lists", dict.fromkeys(_WAVES, (1, 7, 1)))
    assert "should read NAME.avi 0, 1 or 2" in fault_of(from_hmdb51, root, lists)
    (lists / "wave_test_split2.txt").unlink()
    assert "wave_test_split2.txt: No such file" in fault_of(from_hmdb51, root, lists)


def test_all_of_hmdb51(shared: Callable[[str], Path], tmp_path: Path) -> None:
    lists = shared("labels/tsn_ucf101_hmdb51_official/data/hmdb51_splits")
    names = [
        f"{path.name.removesuffix('_test_split1.txt')}/{line.split()[0]}"
        for path in lists.glob("*_test_split1.txt")
        for line in path.read_text().splitlines()
    ]
    dataset = from_hmdb51(touch(tmp_path, *names), lists)
    assert _counts(dataset) == [(3570, 1530)] * 3
    assert len(dataset.classes) == 51
    assert (len(dataset.sources), dataset.missing, dataset.notes) == (6766, (), ())
    # Every name was taken apart: no group still holds the shot's description.
    assert not any("_np" in source.group for source in dataset.sources)
    assert len({source.group for source in dataset.sources}) < 3000


# Kinetics-400

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
    assert dataset.notes == ("1 videos on disk are in none of the lists",)


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
            "none of the 1 videos listed, e.g. x/a",
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
