"""UCF101 on trees of empty files, and by its official lists if these are available."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.sources.ucf101 import from_ucf101, official_splits
from tests.shards.helpers import counts, fault_of, touch


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
        (["UCF-101/YoYo/v_YoYo_g01_c01.avi"], "further down; give {root}/UCF-101 as the root"),
        (["wave/Movie_wave_f_nm_np1_fr_med_26.avi"], "looks like HMDB51: class folders hold"),
        (["abseiling/abcdefghijk_000001_000011.mp4"], "looks like Kinetics400"),
        (["train/a/1.mp4"], "holds split folders"),
        (["a/1.mp4", "b/2.mp4"], "looks like plain class folders (e.g. 1.mp4)"),
        (["UCF101.rar"], "holds packed files (e.g. UCF101.rar); unpack them first"),
        (["a/notes.txt"], "it holds no videos"),
        ([*_ucf("v_YoYo_g01_c01"), "YoYo/extra.avi"], "extra.avi: the name does not fit"),
        (["Archery/v_YoYo_g01_c01.avi"], "does not fit UCF101's v_Archery_gNN_cNN"),
        (_ucf("v_YoYo_g26_c01"), "groups run from 1 to 25"),
        ([*_ucf("v_YoYo_g01_c01"), "YoYo/v_YoYo_g01_c01.mp4"], "two files of one video"),
        ([*_ucf("v_YoYo_g01_c01"), "Archery/notes.txt"], "class 'Archery' has 0 videos"),
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
    assert counts(by_rule) == [(9537, 3783), (9586, 3734), (9624, 3696)]
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
    rule = "but by the official rule it is in"
    wrong = f"YoYo/v_YoYo_g01_c01: {lists}/trainlist01.txt lists it, {rule} test of split 1;"
    assert wrong in fault_of(from_ucf101, root, lists)
    (lists / "trainlist01.txt").write_text("")
    (lists / "testlist01.txt").write_text("YoYo/v_YoYo_g01_c01.avi\n")
    missing = f"YoYo/v_YoYo_g01_c01: {lists}/trainlist02.txt does not list it, {rule} train of"
    assert missing in fault_of(from_ucf101, root, lists)


@pytest.mark.parametrize("group", [0, 26, -3])
def test_ucf101_has_25_groups(group: int) -> None:
    with pytest.raises(InputError, match="1 to 25"):
        official_splits(group)


def test_the_ucf101_rule_is_the_official_lists(shared: Callable[[str], Path]) -> None:
    lists = shared("labels/ucf101_official/data/ucfTrainTestlist")
    num_entries = 0
    for number in (1, 2, 3):
        for split in ("train", "test"):
            for line in (lists / f"{split}list0{number}.txt").read_text().splitlines():
                match = re.search(r"_g(\d\d)_c\d\d\.avi", line)
                assert match, line
                assert official_splits(int(match[1]))[number - 1] == split, line
                num_entries += 1
    assert num_entries == 3 * 13320
