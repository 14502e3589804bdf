"""Label lists: what is written reads back, public formats are understood, the rest is reported."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer import Typer
from typer.testing import CliRunner

from shards.format.dataset_json import DatasetJson, ShardFile
from shards.format.manifest import Manifest, read_manifest
from shards.format.set_names import has_controls
from shards.format.video import ColorMatrix, ColorRange, Video
from shards.format.video_table import video_table
from shards.labels.label_choice import draw_labels
from shards.labels.label_list import (
    label_list_text,
    match_label_list,
    read_label_list,
    shared_groups,
)
from shards.sources.hmdb51 import from_hmdb51
from shards.sources.keys import assign_keys
from shards.sources.ucf101 import from_ucf101
from tb.cli.split import split_command
from tests.shards.any_text import any_text, any_text_settings, check_refusal
from tests.shards.helpers import fault_of, rewritten, touch


@pytest.fixture
def listed(tmp_path: Path) -> Manifest:
    """Three classes of eight videos in four groups; the last two groups are for testing."""
    videos = [
        _video(
            key=f"{name.replace(' ', '_')}_{index}",
            label=label,
            source=f"train/{name}/take {index}.avi" if index else f"{name}/take.0.mp4",
            group=f"g{index // 2}",
            splits=("train" if index < 4 else "test", "" if index < 4 else "train"),
        )
        for label, name in enumerate(("hand stand", "jump", "run"))
        for index in range(8)
    ]
    return _manifest(tmp_path / "set", ("hand stand", "jump", "run"), videos)


def _video(*, key: str, label: int, source: str, group: str, splits: tuple[str, ...]) -> Video:
    return Video(
        key=key,
        label=label,
        splits=splits,
        group=group,
        num_frames=9,
        fps_num=9,
        fps_den=9,
        height=9,
        width=9,
        codec="h264",
        pixel_format="yuv420p",
        color_matrix=ColorMatrix.BT601,
        color_range=ColorRange.LIMITED,
        shard="shard-000000.tar",
        offset=9,
        size=9,
        sha256="0" * 64,
        packets_sha256="",
        source=source,
        source_bytes=9,
    )


def _manifest(root: Path, classes: tuple[str, ...], videos: list[Video]) -> Manifest:
    about = DatasetJson(
        name="set",
        num_videos=len(videos),
        counts=(),
        digest="",
        manifest_sha256="",
        num_sources=len(videos),
        num_skipped=0,
        num_missing=0,
        num_frames=0,
        recipe={},
        seed=0,
        fingerprint="0" * 64,
        versions={},
        shards=(ShardFile(name="shard-000000.tar", num_bytes=18, sha256="0" * 64),),
        classes=classes,
    )
    rewritten(root, about, videos)
    return read_manifest(root)


def _run(*arguments: object) -> str:
    app = Typer()
    app.command()(split_command)
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_what_is_written_reads_back(listed: Manifest, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for share in (0.1, 0.5, 1.0):
        labelled = rng.random(len(listed)) < share
        labelled[3] = True
        path = tmp_path / f"{share}.txt"
        path.write_text(label_list_text(listed, labelled, "a title"))
        assert path.read_text().startswith("# a title\n")
        assert np.array_equal(read_label_list(path, listed), labelled)
        assert match_label_list(path, listed).contradicted == ()


# Characters with a meaning in lists, characters that end a line, and an escape code.
_NAMES = st.text("#ab 12.\\\n\t\u2028\x85\x1bé", min_size=1, max_size=5)
_SOURCES = st.lists(
    st.tuples(st.sampled_from(["", "a/", "#b/"]), _NAMES, st.sampled_from(["", ".avi", ".mp4"])),
    min_size=1,
    max_size=8,
    unique=True,
)


@settings(max_examples=100, deadline=None)
@given(_SOURCES, st.data())
def test_whatever_the_names_what_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, str, str]], data: st.DataObject
) -> None:
    sources = ["".join(part) for part in parts]
    names = [("c", Path(source).stem, source) for source in sources]
    videos = [
        _video(key=key, label=0, source=source, group="", splits=("train",))
        for key, source in zip(assign_keys(names), sources, strict=True)
    ]
    table = video_table(videos)
    manifest = Manifest(root=Path("set"), name="set", classes=("c",), table=table, digest="")
    chosen = data.draw(st.sets(st.sampled_from(range(len(videos))), min_size=1))
    labelled = np.isin(np.arange(len(videos)), list(chosen))
    path = tmp_path_factory.getbasetemp() / "any.txt"
    text = label_list_text(manifest, labelled, "a title")
    assert not any(map(has_controls, text.split("\n")))
    path.write_text(text)
    assert np.array_equal(read_label_list(path, manifest), labelled)
    assert match_label_list(path, manifest).contradicted == ()


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("jump/take 3.avi 1", "jump_3"),
        ("jump/take 3 120 1", "jump_3"),
        ("jump/take 3", "jump_3"),
        ("train/jump/take 3.avi", "jump_3"),
        ("/data/videos/train/jump/take 3.mp4 1", "jump_3"),
        ("jump\\take 3.avi 2", "jump_3"),
        ("jump_3", "jump_3"),
        ("jump_3 9 1", "jump_3"),
        ("jump/take.0 30 1", "jump_0"),
        ("hand stand/take 5.avi 0", "hand_stand_5"),
    ],
)
def test_public_formats(listed: Manifest, tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"# made elsewhere\n#\n## 2020\n\n{line}\n")
    rows = np.flatnonzero(read_label_list(path, listed))
    assert [listed.keys[row] for row in rows] == [key]


def test_what_does_not_match_is_told(listed: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    # "take 2" alone could be in any class.
    path.write_text("jump/take 1 9 0\nswim/lap 1.avi 7\ntake 2\njump/take 2 9 1\n")
    match = match_label_list(path, listed)
    assert match.unmatched == ("swim/lap 1.avi 7", "take 2")
    assert match.contradicted == ("jump/take 1 9 0",)
    assert "2 entries not in" in fault_of(read_label_list, path, listed)


def test_labels_counted_from_one_do_not_contradict(listed: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("hand stand/take 1.avi 1\njump/take 1.avi 2\nrun/take 1.avi 3\n")
    assert match_label_list(path, listed).contradicted == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b"# only words\n", "is empty"),
        (b"\xff\xfe\0", "not a text file"),
        (b"a/b.avi 0\nc/d.avi 0\n", "none of its 2 entries is in"),
    ],
)
def test_lists_that_are_none(
    listed: Manifest, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    message = fault_of(match_label_list, path, listed)
    assert expected in message
    assert str(path) in message


def test_shared_groups(listed: Manifest) -> None:
    parts = {"a": np.array([0, 1]), "b": np.array([1, 2]), "c": np.array([4, 5])}
    assert shared_groups(listed, parts) == [("a", "b", 1), ("a", "c", 0), ("b", "c", 0)]
    blank = listed.table.drop_columns("group").append_column("group", pa.array([""] * len(listed)))
    assert [n for *_, n in shared_groups(replace(listed, table=blank), parts)] == [0, 0, 0]


def test_split_draws_nested_lists(listed: Manifest) -> None:
    small, large = (
        np.flatnonzero(read_label_list(_list_of(_run(listed.root, "--fraction", p)), listed))
        for p in (10, 50)
    )
    assert len(small) == 3
    assert len(large) == 6
    assert set(small) <= set(large) <= set(listed.indices("train"))


def _list_of(output: str) -> Path:
    return Path(output.splitlines()[-1].removeprefix("list").strip())


def test_split_reports_groups_that_are_torn(listed: Manifest) -> None:
    text = _run(listed.root, "--fraction", 50)
    assert re.search(r"groups  [12] in both labelled and unlabelled, 0 in both labelled and", text)
    assert "per class 2 to 2 labelled" in text
    whole = _run(listed.root, "--fraction", 50, "--groups")
    labelled = read_label_list(_list_of(whole), listed)
    for label in range(3):
        rows = np.flatnonzero(labelled & (listed.labels == label))
        assert len({listed.video(int(row)).group for row in rows}) == 1


def test_split_takes_the_pool_and_other_split_numbers(listed: Manifest) -> None:
    numbers = {"train": 12, "pool": 24}
    for split, num_rows in numbers.items():
        text = _run(listed.root, "--fraction", 100, "--split", split, "--split-number", 2)
        assert f"{num_rows} labelled of {num_rows} videos" in text


def test_split_from_a_public_list(listed: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "public.txt"
    path.write_text("jump/take 1 9 1\nswim/lap 1 9 7\nrun/take 2 9 1\n")
    text = _run(listed.root, "--from-list", path)
    assert "2 labelled of 12 videos in train split 1 of set (from public.txt)" in text
    assert "1 entry without a video in the shards (e.g. swim/lap 1 9 7)" in text
    assert "1 entry with another label" in text
    assert "warning: class hand stand has no labelled video" in text
    assert read_label_list(_list_of(text), listed).sum() == 2


def test_split_says_what_is_wrong(listed: Manifest, tmp_path: Path) -> None:
    leak = tmp_path / "leak.txt"
    leak.write_text("jump/take 1 9 1\njump/take 6 9 1\n")
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    for arguments, expected in (
        ([], "give either --fraction or --from-list"),
        (["--fraction", 5, "--from-list", leak], "give either"),
        (["--from-list", leak, "--seed", 1], "--seed and --groups are for a draw"),
        (["--from-list", leak, "--groups"], "--seed and --groups are for a draw"),
        (["--fraction", 0], "percentage above 0"),
        (["--fraction", 5, "--split-number", 3], "choose 1 to 2"),
        (["--from-list", leak], "1 entry outside the train split 1 of set (e.g. jump_6)"),
        (["--fraction", 5, "--out", mine], "holds another list"),
        (["--fraction", 5, "--out", tmp_path / "no" / "x.txt"], "No such file"),
    ):
        assert expected in fault_of(_run, listed.root, *arguments)
    assert mine.read_text() == "precious"
    assert "has no videos" in fault_of(lambda: draw_labels(listed, 5, split="val"))


_PUBLIC = "labels/videossl_lambertx/data"


@pytest.fixture(scope="module")
def ucf(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    lists = shared("labels/ucf101_official/data/ucfTrainTestlist")
    names = [
        line.split()[0]
        for split in ("train", "test")
        for line in (lists / f"{split}list01.txt").read_text().splitlines()
    ]
    folder = tmp_path_factory.mktemp("ucf")
    return _as_manifest(from_ucf101(touch(folder / "videos", *names)), folder / "set")


@pytest.fixture(scope="module")
def hmdb(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    lists = shared("labels/tsn_ucf101_hmdb51_official/data/hmdb51_splits")
    names = [
        f"{path.name.removesuffix('_test_split1.txt')}/{line.split()[0]}"
        for path in lists.glob("*_test_split1.txt")
        for line in path.read_text().splitlines()
    ]
    folder = tmp_path_factory.mktemp("hmdb")
    return _as_manifest(from_hmdb51(touch(folder / "videos", *names), lists), folder / "set")


@pytest.mark.parametrize(
    ("percent", "num_labelled", "lost"),
    [(5, 476, ["CliffDiving"]), (10, 953, []), (20, 1907, []), (50, 4768, [])],
)
def test_public_ucf101_lists(
    shared: Callable[[str], Path], ucf: Manifest, percent: int, num_labelled: int, lost: list[str]
) -> None:
    name = f"ucf101_train_{percent}_percent_labeled_split_1_rawframes.txt"
    text = _run(ucf.root, "--from-list", shared(f"{_PUBLIC}/ucf101/videossl_splits/{name}"))
    assert f"{num_labelled} labelled of 9537 videos in train split 1" in text
    assert re.findall(r"class (\w+) has no labelled", text) == lost
    assert "0 in both labelled and test, 0 in both unlabelled and test" in text
    assert "match no video" not in text
    assert "another label" not in text


@pytest.mark.parametrize(("percent", "num_labelled"), [(40, 2094), (50, 2618), (60, 3141)])
def test_public_hmdb51_lists(
    shared: Callable[[str], Path], hmdb: Manifest, percent: int, num_labelled: int
) -> None:
    name = f"hmdb51_train_{percent}_percent_labeled_split_1_rawframes.txt"
    path = shared(f"{_PUBLIC}/hmdb51/videossl_splits/{name}")
    assert "outside the train split 1" in fault_of(_run, hmdb.root, "--from-list", path)
    text = _run(hmdb.root, "--from-list", path, "--split", "pool")
    assert f"{num_labelled} labelled of 5236 videos in pool split 1" in text
    assert "match no video" not in text
    # The lists are sorted by file name: "climb_stairs_test..." comes before "climb_test...".
    odd = {entry.partition("/")[0] for entry in match_label_list(path, hmdb).contradicted}
    assert odd == {"climb", "climb_stairs", "kick", "kick_ball", "sword", "sword_exercise"}


def test_names_of_hmdb51_that_begin_like_a_comment(
    shared: Callable[[str], Path], hmdb: Manifest, tmp_path: Path
) -> None:
    lists = shared("labels/tsn_ucf101_hmdb51_official/data/hmdb51_splits")
    names = [line.split()[0] for line in (lists / "clap_test_split1.txt").read_text().splitlines()]
    assert sum(name.startswith("#") for name in names) > 3
    for extension in (".avi", ""):
        path = tmp_path / "clap.txt"
        path.write_text("".join(f"{name.removesuffix('.avi')}{extension} 4\n" for name in names))
        match = match_label_list(path, hmdb)
        assert match.labelled.sum() == len(names)
        assert match.unmatched == ()
    path.write_text(f"{names[0]} 4\n#404_Not_Found_clap_u_nm_np1_fr_goo_0.avi 4\n")
    assert match_label_list(path, hmdb).unmatched == (
        "#404_Not_Found_clap_u_nm_np1_fr_goo_0.avi 4",
    )


@any_text_settings
@given(any_text("jump_1", "train/jump/take 1.avi"), any_text("jump_2"))
def test_any_list_is_read_or_refused_in_one_line(
    listed: Manifest, tmp_path: Path, before: bytes, after: bytes
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(before + b"\njump_1\n" + after)
    check_refusal(path, match_label_list, path, listed)


def test_a_number_without_end_is_no_label(listed: Manifest, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"jump_1 3\njump_2 {'9' * 5000}\n")
    assert match_label_list(path, listed).unmatched == (f"jump_2 {'9' * 5000}",)


def _as_manifest(dataset, root: Path) -> Manifest:  # type: ignore[no-untyped-def]
    videos = [
        _video(
            key=source.key,
            label=source.label,
            source=source.path.relative_to(dataset.root).as_posix(),
            group=source.group,
            splits=source.splits,
        )
        for source in dataset.sources
    ]
    return _manifest(root, dataset.classes, videos)
