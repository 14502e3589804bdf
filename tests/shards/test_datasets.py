"""Sources from folders and tables, and what is said where these are not as they should be."""

from collections import Counter
from pathlib import Path

import pytest

from shards.datasets import Dataset, csv, folder, ucf101
from shards.errors import InputError


def _touch(root: Path, *names: str) -> Path:
    """Empty files; listing does not open them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def _pairs(count: int, *classes: str) -> list[str]:
    return [f"{name}/{index}.mp4" for name in classes for index in range(count)]


def _fault(call, *args, **kwargs) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def _splits(dataset: Dataset) -> Counter[str]:
    return Counter(source.splits[0] for source in dataset.sources)


# folder


def test_labels_are_alphabetical_without_case(tmp_path: Path) -> None:
    dataset = folder(_touch(tmp_path, *_pairs(2, "JumpRope", "JumpingJack", "archery")))
    assert dataset.classes == ("archery", "JumpingJack", "JumpRope")
    assert {dataset.classes[s.label] for s in dataset.sources if s.path.parent.name == "archery"}


def test_only_videos_count_at_any_depth(tmp_path: Path) -> None:
    names = ["a/1.mp4", "a/deep/er/2.AVI", "a/.hidden.mp4", "a/3.txt", ".git/x.mp4", "README.md"]
    dataset = folder(_touch(tmp_path, *names))
    assert [source.path.name for source in dataset.sources] == ["1.mp4", "2.AVI"]


def test_split_folders(tmp_path: Path) -> None:
    names = [f"{s}/{n}" for s in ("train", "Validation", "test") for n in _pairs(2, "a", "b")]
    assert _splits(folder(_touch(tmp_path, *names))) == {"train": 4, "val": 4, "test": 4}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = folder(_touch(tmp_path, *_pairs(2, "train", "bus")))
    assert dataset.classes == ("bus", "train")
    assert _splits(dataset) == {"train": 4}


@pytest.mark.parametrize(("percent", "num_test"), [(0, 0), (1, 1), (30, 3), (50, 5), (99, 9)])
def test_test_percent_takes_its_share_of_every_class(
    tmp_path: Path, percent: float, num_test: int
) -> None:
    dataset = folder(_touch(tmp_path, *_pairs(10, "a", "b")), test_percent=percent)
    tests = Counter(source.label for source in dataset.sources if source.splits == ("test",))
    assert tests == Counter({0: num_test, 1: num_test}) + Counter()


def test_links_that_go_round_in_circles_end(tmp_path: Path) -> None:
    _touch(tmp_path, *_pairs(2, "a"))
    (tmp_path / "a" / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert len(folder(tmp_path).sources) == 2


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        (None, {}, "no such folder; check --root"),
        ([], {}, "is empty; put one folder per class"),
        (["x.mp4"], {}, "holds 1 videos but no class folders"),
        (["notes.txt"], {}, "holds files but no class folders"),
        (["a/1.mp4", "a/2.mp4", "x.mp4"], {}, "x.mp4: lies outside any class folder"),
        (["a/1.mp4"], {}, "class 'a' has 1 video(s), needs 2: add videos or remove the class, or"),
        (["a/1.mp4", "a/2.mp4", "b/notes.txt"], {}, "class 'b' has 0 video(s)"),
        (["train/a/1.mp4"], {"test_percent": 5}, "holds split folders (train), so --test-percent"),
        (["val/a/1.mp4", "valid/a/2.mp4"], {}, "val means the same split"),
        (["a/1.mp4"], {"test_percent": 100}, "--test-percent 100"),
        (["a/1.mp4"], {"test_percent": 9, "min_per_class": 1}, "cannot be both train and test"),
    ],
)
def test_folders_that_are_not_a_data_set(
    tmp_path: Path, names: list[str] | None, options: dict[str, float], expected: str
) -> None:
    root = tmp_path / "set"
    if names is not None:
        root.mkdir()
        _touch(root, *names)
    message = _fault(folder, root, **options)
    assert expected in message
    assert str(root) in message or message.startswith("--")


def test_a_file_is_not_a_root(tmp_path: Path) -> None:
    assert "is a file; --root takes the folder" in _fault(folder, _touch(tmp_path, "x") / "x")


def test_one_video_is_enough_where_one_says_so(tmp_path: Path) -> None:
    assert len(folder(_touch(tmp_path, "a/1.mp4"), min_per_class=1).sources) == 1


# csv


def _table(tmp_path: Path, text: str | bytes) -> Path:
    _touch(tmp_path, *_pairs(3, "a", "b"))
    path = tmp_path / "set.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_table_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = '\ufeffpath , label,notes\r\n"a/0.mp4", x ,"1, 2"\r\n\r\na/1.mp4,x,\r\n'
    dataset = csv(_table(tmp_path, text))
    assert dataset.classes == ("x",)
    assert [source.path.name for source in dataset.sources] == ["0.mp4", "1.mp4"]
    assert _splits(dataset) == {"train": 2}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: no column 'path'"),
        ("path,class\n", "line 1: no column 'label' (found: path, class)"),
        ("path,label\n", "has no rows"),
        ("path,label\na/0.mp4,x\na/9.mp4,x\n", "line 3: a/9.mp4: no such file below"),
        ("path,label\na,x\n", "line 2: a: no such file"),
        ("path,label\n" + "a" * 5000 + ",x\n", "no such file"),
        ("path,label\na/0.mp4,\n", "line 2: label is empty"),
        ("path,label\n,x\n", "line 2: path is empty"),
        ("path,label\na/0.mp4\n", "line 2: label is empty"),
        ("path,label\na/0.mp4,x\na/../a/0.mp4,y\n", "line 3: a/../a/0.mp4 is already on line 2"),
        ("path,label,split\na/0.mp4,x,dev\n", "line 2: split 'dev': write train, val, test"),
        ("path,label\na/0.mp4,x\nb/0.mp4,y\nb/1.mp4,y\n", "class 'x' has 1 video(s)"),
        (b"path,label\na/0.mp4,caf\xe9\n", "not a UTF-8 CSV file"),
        (b"path,label\na/0.mp4,\0\n", "set.csv"),
    ],
)
def test_tables_with_a_mistake(tmp_path: Path, text: str | bytes, expected: str) -> None:
    path = _table(tmp_path, text)
    message = _fault(csv, path)
    assert expected in message
    assert str(path) in message


def test_no_table(tmp_path: Path) -> None:
    assert "no such file; --csv takes a table" in _fault(csv, tmp_path / "x.csv")


# ucf101


def _ucf(*names: str) -> list[str]:
    return [f"{name.split('_')[1]}/{name}.avi" for name in names]


def test_ucf101_needs_no_lists(tmp_path: Path) -> None:
    names = _ucf("v_Archery_g01_c01", "v_Archery_g08_c02", "v_YoYo_g15_c01", "v_YoYo_g25_c03")
    dataset = ucf101(_touch(tmp_path, *names, "HandstandPushups/v_HandStandPushups_g01_c01.avi"))
    assert dataset.classes == ("Archery", "HandstandPushups", "YoYo")
    by_key = {source.key: source for source in dataset.sources}
    assert by_key["v_Archery_g01_c01"].splits == ("test", "train", "train")
    assert by_key["v_Archery_g08_c02"].splits == ("train", "test", "train")
    assert by_key["v_YoYo_g15_c01"].splits == ("train", "train", "test")
    assert by_key["v_YoYo_g25_c03"].splits == ("train", "train", "train")
    assert by_key["v_YoYo_g25_c03"].group == "YoYo_g25"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["UCF-101/" + _ucf("v_YoYo_g01_c01")[0]], "one level down; give --root UCF-101"),
        (["wave/Movie_wave_f_nm_np1_fr_med_26.avi"], "look like HMDB51"),
        (["train/a/1.mp4"], "holds split folders"),
        (["a/1.mp4", "b/2.mp4"], "looks like 2 plain class folders (e.g. 1.mp4)"),
        ([*_ucf("v_YoYo_g01_c01"), "YoYo/extra.avi"], "extra.avi: the name does not fit"),
        (["Archery/v_YoYo_g01_c01.avi"], "does not fit UCF101's v_Archery_gNN_cNN"),
        (_ucf("v_YoYo_g26_c01"), "groups run from 1 to 25"),
        ([*_ucf("v_YoYo_g01_c01"), "Archery/notes.txt"], "class 'Archery' has 0 video(s)"),
    ],
)
def test_what_is_not_ucf101(tmp_path: Path, names: list[str], expected: str) -> None:
    assert expected in _fault(ucf101, _touch(tmp_path, *names))
