"""HMDB51 on trees of empty files, and by its official lists if these are available."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.format.manifest import read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.hmdb51 import from_hmdb51
from tests.make_videos import make_video
from tests.shards.helpers import counts, fault_of, touch


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
        (["YoYo/v_YoYo_g01_c01.avi"], "looks like UCF101: class folders hold v_Class_gNN_cNN.avi"),
        (["all/wave/M_wave_f_nm_np1_fr_med_2.avi"], "further down; give {root}/all as the root"),
        (["wave.rar"], "holds packed files (e.g. wave.rar)"),
        (["wave/New_wave_f_nm_np1_fr_med_26.avi"], "not in wave_test_splitN.txt"),
        (
            [f"wave/{kind}M_wave_f_nm_np1_fr_med_2.{kind[:3] or 'avi'}" for kind in ("", "mp4/")],
            "two files of one video; keep one of them",
        ),
    ],
)
def test_what_is_not_hmdb51(tmp_path: Path, names: list[str], expected: str) -> None:
    lists, root = _hmdb_lists(tmp_path / "lists", _WAVES), tmp_path / "set"
    assert expected.format(root=root) in fault_of(from_hmdb51, touch(root, *names), lists)


def test_hmdb51_lists_that_are_none(tmp_path: Path) -> None:
    root = touch(tmp_path / "set", *(f"wave/{name}.avi" for name in _WAVES))
    assert "are the folder of HMDB51's" in fault_of(from_hmdb51, root, touch(tmp_path / "no"))
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
    assert counts(dataset) == [(3570, 1530)] * 3
    assert len(dataset.classes) == 51
    assert (len(dataset.sources), dataset.missing, dataset.notes) == (6766, (), ())
    # Every name was split: no group still has the description of the shot.
    assert not any("_np" in source.group for source in dataset.sources)
    assert len({source.group for source in dataset.sources}) < 3000
