"""Ingestion: the same digest whatever the workers; bad videos are listed; wrong input is named."""

import errno
import json
from pathlib import Path

import pytest

from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.dataset_json import read_dataset_json
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.ingestion.ingest import ingest
from shards.ingestion.out_checks import disk_errors
from shards.sources.folder import from_folder
from shards.sources.table import from_csv
from shards.verification import verify
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import fault_of, files_in, touch


def test_the_digest_depends_on_recipe_and_seed_but_not_on_the_place_on_disk(
    videos: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / videos.name
    for path in sorted(videos.rglob("*.mp4"), reverse=True):
        copy = moved / path.relative_to(videos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    reports = [
        ingest(from_folder(videos), tmp_path / "1"),
        ingest(from_folder(moved), tmp_path / "2"),
        ingest(from_folder(videos), tmp_path / "3", seed=1),
        ingest(from_folder(videos), tmp_path / "4", recipe=Recipe(quality=30)),
    ]
    digests = [report.digest for report in reports]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_frame_rate_is_a_part_of_the_recipe(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = ingest(from_folder(videos), out, recipe=Recipe(fps=10))
    assert read_dataset_json(out).recipe["fps"] == 10
    assert set(read_manifest(out).fps) == {10.0}
    assert set(read_manifest(out).num_frames) == {8}  # of 20 at 25 frames per second
    assert report.digest != ingest(from_folder(videos), tmp_path / "own").digest
    for other in (None, 5):
        with pytest.raises(InputError, match="other videos, recipe or seed"):
            ingest(from_folder(videos), out, recipe=Recipe(fps=other))


def test_the_order_is_shuffled(videos: Path, tmp_path: Path) -> None:
    ingest(from_folder(videos), tmp_path / "out")
    keys = read_manifest(tmp_path / "out").keys
    assert len(keys) == 10
    assert keys != sorted(keys)


def test_a_second_run_changes_nothing(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ingest(from_folder(videos), out)
    before = files_in(out)
    second = ingest(from_folder(videos), out)
    assert second.already_done
    assert second.digest == first.digest
    assert files_in(out) == before


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes of two good videos each, and a bad one."""
    root = tmp_path / "mixed"
    for name in ("a/1", "a/2", "b/1", "b/2"):
        make_video(root / f"{name}.mp4", num_frames=8)
    damage.truncated(root / "a" / "cut.mp4")
    return root


def test_strict_stops_at_a_bad_video_and_can_be_taken_back(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        with pytest.raises(InputError, match=r"mixed/[ab]/\w+\.\w+: .* without --strict"):
            ingest(from_folder(mixed), out, strict=True)
    resumed = ingest(from_folder(mixed), out)
    assert resumed.digest == ingest(from_folder(mixed), tmp_path / "other").digest
    before = files_in(out)
    with pytest.raises(InputError, match=r"mixed/a/cut\.mp4: .* without --strict"):
        ingest(from_folder(mixed), out, strict=True)
    assert files_in(out) == before


def test_a_class_with_nothing_usable_stays_with_no_video(mixed: Path, tmp_path: Path) -> None:
    for index in range(3):
        damage.text(_in(mixed / "aa", f"{index}.mp4"))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="without --strict"):
        ingest(from_folder(mixed), out, strict=True)
    report = ingest(from_folder(mixed), out)
    assert (report.num_videos, report.num_skipped) == (4, 4)
    manifest = read_manifest(out)
    assert manifest.classes == ("a", "aa", "b")
    assert sorted(manifest.labels.tolist()) == [0, 0, 2, 2]
    assert _skipped(out) == {"a/cut.mp4", "aa/0.mp4", "aa/1.mp4", "aa/2.mp4"}
    assert verify(out, decode=True) == []


def test_nothing_usable_at_all_is_an_error_with_a_list_of_reasons(tmp_path: Path) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    for index in range(2):
        damage.text(_in(root / "a", f"{index}.mp4"))
    with pytest.raises(InputError, match=r"none of the videos \(2\) can be used, .*all reasons"):
        ingest(from_folder(root), out)
    assert _skipped(out) == {"a/0.mp4", "a/1.mp4"}
    for index in range(2):
        make_video(root / "a" / f"{index}.mp4", num_frames=4)
    assert ingest(from_folder(root), out).num_videos == 2
    assert _skipped(out) == set()


def _skipped(out: Path) -> set[str]:
    return {json.loads(line)["source"] for line in (out / SKIPPED_NAME).read_text().splitlines()}


def _in(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    return parent / name


def test_other_content_is_never_mixed_into_a_folder(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingest(from_folder(videos), out)
    with pytest.raises(InputError, match="finished shards of other videos, recipe or seed"):
        ingest(from_folder(videos), out, seed=1)
    stray = tmp_path / "stray"
    _in(stray, "shard-000000.tar").write_bytes(b"mine")
    with pytest.raises(InputError, match="unknown origin"):
        ingest(from_folder(videos), stray)
    assert (stray / "shard-000000.tar").read_bytes() == b"mine"


def test_the_output_lies_beside_the_videos_not_among_them(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds the videos themselves"):
        ingest(from_folder(videos), videos)
    with pytest.raises(InputError, match="holds the videos themselves"):
        ingest(from_folder(videos), videos / "spin")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match="is a file"):
        ingest(from_folder(videos), file)


def test_shards_inside_the_root_are_not_a_class(tmp_path: Path) -> None:
    for name in ("a/1", "a/2"):
        make_video(tmp_path / f"{name}.mp4", num_frames=4)
    first = ingest(from_folder(tmp_path), tmp_path / "shards")
    assert ingest(from_folder(tmp_path), tmp_path / "shards").digest == first.digest


def test_a_shard_removed_or_changed_between_two_runs_is_noticed(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ingest(from_folder(videos), out, shard_bytes=60_000)
    shard = out / "shard-000001.tar"
    data = shard.read_bytes()
    shard.write_bytes(data[:-512])
    with pytest.raises(InputError, match=rf"{shard}: has \d+ bytes, .*`tb data verify {out}`"):
        ingest(from_folder(videos), out, shard_bytes=60_000)
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard}: missing"):
        ingest(from_folder(videos), out, shard_bytes=60_000)
    shard.write_bytes(data)
    assert ingest(from_folder(videos), out, shard_bytes=60_000).already_done


def test_an_error_of_the_callback_is_not_reported_as_the_disk_s(
    videos: Path, tmp_path: Path
) -> None:
    def closed_terminal(done: int, num_videos: int, key: str) -> None:
        if done == 3:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    dataset = from_folder(videos)
    with pytest.raises(BrokenPipeError):
        ingest(dataset, tmp_path / "out", progress=closed_terminal)
    assert ingest(dataset, tmp_path / "out").num_videos == 10


def test_an_error_that_only_a_library_raises_is_not_reported_as_the_disk_s() -> None:
    """Such an error has no number of the system's."""
    with pytest.raises(OSError, match=r"^no such frame$"), disk_errors("out"):
        raise OSError("no such frame")
    full = r"^out: No space left on device; free some space"
    with pytest.raises(InputError, match=full), disk_errors("out"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_names_that_are_not_unicode_or_very_long(tmp_path: Path) -> None:
    root = tmp_path / "set"
    source = make_video(root / "a" / "plain.mp4", num_frames=4)
    names = [b"caf\xe9.mp4", "café.mp4".encode(), b"x" * 250 + b".mp4", b"x" * 249 + b"y.mp4"]
    names += [b"a.b c'\"\n.mp4", b"caf\\xe9.mp4"]
    for name in names:
        Path(root / "a", name.decode("utf-8", "surrogateescape")).write_bytes(source.read_bytes())
    out = tmp_path / "out"
    report = ingest(from_folder(root), out)
    assert report.num_videos == len(set(read_manifest(out).keys)) == len(names) + 1
    assert verify(out) == []


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", "a\x7f", "a\u2029b"])
def test_a_name_that_could_not_be_read_back_is_refused(tmp_path: Path, name: str) -> None:
    of_class = touch(tmp_path / "set", f"{name}/1.mp4", f"{name}/2.mp4")
    of_set = touch(tmp_path / name, "a/1.mp4", "a/2.mp4")
    for root, what in ((of_class, "class"), (of_set, "data set")):
        message = fault_of(ingest, from_folder(root), tmp_path / "out")
        assert f"the name of the {what} " in message
        assert "has a line break or another control character; rename the folder" in message
    assert not (tmp_path / "out").exists()


def test_the_longest_and_oddest_names_are_read_back(videos: Path, tmp_path: Path) -> None:
    names = ("x" * 1024, "日\u3000本", "می\u200cخواهم")
    paths = sorted(videos.rglob("*.mp4"))[: len(names)]
    (tmp_path / "caf\udce9").mkdir()
    table = tmp_path / "caf\udce9" / "set.csv"
    rows = "".join(f"{path},{name}\n" for path, name in zip(paths, names, strict=True))
    table.write_text("path,label\n" + rows)
    ingest(from_csv(table, min_per_class=1), tmp_path / "out", seed=2**128 - 1)
    assert sorted(read_manifest(tmp_path / "out").classes) == sorted(names)
    table.write_text(table.read_text().replace("x" * 1024, "x" * 1025))
    message = fault_of(ingest, from_csv(table, min_per_class=1), tmp_path / "out")
    assert "has more than 1024 characters; rename the folder, or change the table" in message


def test_a_seed_that_could_not_be_read_back_is_refused(videos: Path, tmp_path: Path) -> None:
    for seed in (-1, 2**128, 10**5000):
        message = fault_of(ingest, from_folder(videos), tmp_path / "out", seed=seed)
        assert f"seed: must be a whole number from 0 to below {2**128}" in message


def test_a_csv_takes_part_of_a_folder(videos: Path, tmp_path: Path) -> None:
    table = tmp_path / "some.csv"
    rows = [f"{videos}/{c}/{c}{n}.mp4,{c},{s},g{n}" for c in ("spin", "jump") for n, s in _SPLITS]
    table.write_text("\n".join(["path,label,split,group", *rows]))
    ingest(from_csv(table), tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest.classes == ("jump", "spin")
    for split in ("train", "val", "test", ""):
        assert len(manifest.indices(split)) == 2
    assert {manifest.video(row).group for row in manifest.indices("test")} == {"g2"}


def test_a_csv_whose_videos_are_partly_there(videos: Path, tmp_path: Path) -> None:
    table, out = tmp_path / "some.csv", tmp_path / "out"
    rows = [f"{videos}/spin/spin{index}.mp4,spin" for index in (0, 1, 77)]
    rows += [f"gone/{index}.mp4,jump" for index in range(2)]
    table.write_text("\n".join(["path,label", *rows]))
    report = ingest(from_csv(table), out, strict=True)
    assert (report.num_videos, report.num_skipped, report.num_missing) == (2, 0, 3)
    assert _skipped(out) == {f"{videos}/spin/spin77.mp4", "gone/0.mp4", "gone/1.mp4"}
    assert read_manifest(out).classes == ("jump", "spin")
    assert ingest(from_csv(table), out, strict=True).already_done


_SPLITS = list(enumerate(("train", "val", "test", "")))
