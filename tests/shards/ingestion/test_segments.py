"""Segments of long files, from a table to shards: order, resume, kills, faults and memory."""

import json
import os
import re
import signal
import time
from itertools import groupby
from pathlib import Path

import pytest

from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.ingestion.ingest import ingest
from shards.ingestion.passes import MAX_AT_ONCE
from shards.labels.label_choice import draw_labels
from shards.labels.label_list import read_label_list
from shards.reader import ShardReader
from shards.sources.table import from_csv
from shards.verification import verify
from tests.forks import running
from tests.shards import damage
from tests.shards.helpers import children_of, fault_of, files_in, has_open
from tests.shards.numbered_videos import make_numbered, numbers_in

_CHEAP = Recipe(quality=30, short_side_px=64, gop=8)
_SHARD_BYTES = 20_000


def _ingest(table: Path, out: Path) -> None:
    ingest(from_csv(table), out, workers=2, shard_bytes=_SHARD_BYTES, recipe=_CHEAP)


def _table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["path,label,start_s,end_s,split", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five files of 200 frames at 25 fps: one as a whole, the others as segments that overlap."""
    root = tmp_path_factory.mktemp("long")
    rows = []
    for number in range(5):
        make_numbered(root / f"{number}.mp4", 200)
        for start in range(6) if number else []:
            split = "test" if start == 5 else "train"
            rows.append(f"{number}.mp4,c{start % 2},{start}.2,{start + 2},{split}")
    return _table(root / "set.csv", *rows, "0.mp4,c0,,,train")


@pytest.fixture(scope="module")
def whole(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of the table."""
    out = tmp_path_factory.mktemp("whole")
    report = ingest(from_csv(table), out, recipe=_CHEAP, shard_bytes=_SHARD_BYTES)
    assert (report.num_videos, report.num_skipped) == (25, 0)
    return out


def _shown(manifest: Manifest) -> dict[str, list[int]]:
    with ShardReader(manifest) as reader:
        return {key: numbers_in(reader.read(row)) for row, key in enumerate(manifest.keys)}


def test_every_segment_is_stored_with_its_frames_and_its_split(whole: Path) -> None:
    assert verify(whole, decode=True) == []
    manifest = read_manifest(whole)
    shown = _shown(manifest)
    assert shown.pop("0") == list(range(200))
    for key, numbers in shown.items():
        match = re.fullmatch(r"\d-(\d)_2-(\d)", key)
        assert match
        assert numbers == list(range(int(match[1]) * 25 + 5, int(match[2]) * 25))
    assert len(manifest.indices("test")) == 4
    assert set(manifest.groups) == {"", "1.mp4", "2.mp4", "3.mp4", "4.mp4"}


def test_the_segments_of_a_file_lie_side_by_side_and_files_are_shuffled(whole: Path) -> None:
    files = [name for name, _ in groupby(read_manifest(whole).keys, key=lambda key: key[0])]
    assert sorted(files) == list("01234")
    assert files != list("01234")


def test_label_lists_name_segments(whole: Path, tmp_path: Path) -> None:
    manifest = read_manifest(whole)
    choice = draw_labels(manifest, 20.0)
    drawn = choice.write(tmp_path / "drawn.txt")
    assert "1.mp4#t=" in drawn.read_text()
    keys = [key for key, is_in in zip(manifest.keys, choice.labelled, strict=True) if is_in]
    assert 0 < len(keys) < len(manifest)
    (tmp_path / "keys.txt").write_text("\n".join(keys))
    for path in (drawn, tmp_path / "keys.txt"):
        assert (read_label_list(path, manifest) == choice.labelled).all()


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    table: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    num_killed = 0
    for num_finished in (1, 3):
        with running(_ingest, table, out) as process:
            while process.exitcode is None and len(list(out.glob("*.tar"))) < num_finished:
                time.sleep(0.002)
        num_killed += process.exitcode == -signal.SIGKILL
    assert num_killed == 2
    report = ingest(from_csv(table), out, recipe=_CHEAP, shard_bytes=_SHARD_BYTES)
    assert report.num_resumed > 0
    assert files_in(out) == files_in(whole)
    assert not any(path.is_dir() for path in out.iterdir())


def test_results_that_wait_on_the_disk_are_the_same(
    table: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.ingestion.pool._MAX_WAITING_BYTES", 1)
    ingest(from_csv(table), tmp_path / "out", recipe=_CHEAP, shard_bytes=_SHARD_BYTES, workers=2)
    assert files_in(tmp_path / "out") == files_in(whole)


def test_more_segments_than_encoders_give_the_same_videos(table: Path, tmp_path: Path) -> None:
    """All of them overlap, so the file is decoded several times."""
    tenths = {n: (n, 40 - n) for n in range(2 * MAX_AT_ONCE + 3)}
    rows = [
        f"{table.parent}/1.mp4,c,{start // 10}.{start % 10},{end // 10}.{end % 10},"
        for start, end in tenths.values()
    ]
    ingest(from_csv(_table(tmp_path / "t.csv", *rows)), tmp_path / "out", recipe=_CHEAP)
    shown = _shown(read_manifest(tmp_path / "out"))
    assert sorted(shown.values()) == [
        list(range((start * 25 + 5) // 10, (end * 25 + 5) // 10)) for start, end in tenths.values()
    ]


def test_segments_that_cannot_be_stored_are_listed_by_name(table: Path, tmp_path: Path) -> None:
    folder = table.parent
    damage.truncated(tmp_path / "cut.mp4")
    rows = [f"{folder}/1.mp4,c,0,1,", f"{folder}/1.mp4,c,7,9,", f"{folder}/1.mp4,c,3,4,"]
    path = _table(tmp_path / "set.csv", *rows, "cut.mp4,c,0,0.2,", "cut.mp4,c,0.2,0.4,")
    report = ingest(from_csv(path), tmp_path / "out", recipe=_CHEAP)
    assert (report.num_videos, report.num_skipped) == (2, 3)
    lines = (tmp_path / "out" / SKIPPED_NAME).read_text().splitlines()
    found = {(entry := json.loads(line))["key"]: entry for line in lines}
    assert set(found) == {"1-7-9", "cut-0-0_2", "cut-0_2-0_4"}
    assert found["1-7-9"]["source"].endswith("1.mp4#t=7,9")
    assert found["1-7-9"]["reason"].startswith("line 3: end_s 9: after the end of the file")
    with pytest.raises(InputError, match="without --strict"):
        ingest(from_csv(path), tmp_path / "strict", recipe=_CHEAP, strict=True)


def test_a_crash_costs_the_segments_of_one_file(table: Path, tmp_path: Path) -> None:
    """The segments before the crash are stored, those after it are listed."""
    damage.endless(tmp_path / "endless.mkv")
    rows = [f"{table.parent}/1.mp4,c,{n},{n + 1}," for n in range(3)]
    rows += [f"endless.mkv,c,{n},{n + 1}," for n in (0, 10_000_000, 20_000_000)]
    path, out = _table(tmp_path / "set.csv", *rows), tmp_path / "out"
    with running(_ingest, path, out) as process:
        killed: list[int] = []
        while len(killed) < 2:
            assert process.exitcode is None
            for worker in set(children_of(process.pid)) - set(killed):
                if has_open(worker, "endless.mkv"):
                    os.kill(worker, signal.SIGSEGV)
                    killed.append(worker)
            time.sleep(0.01)
        process.join(60)
        assert process.exitcode == 0
    lines = (out / SKIPPED_NAME).read_text().splitlines()
    reasons = {(entry := json.loads(line))["key"]: entry["reason"] for line in lines}
    assert set(reasons) >= {f"endless-{n}-{n + 1}" for n in (10_000_000, 20_000_000)}
    assert set(reasons.values()) == {"crashed the decoder twice (SIGSEGV)"}
    stored = set(read_manifest(out).keys)
    assert stored >= {"1-0-1", "1-1-2", "1-2-3"}


def test_the_time_limit_lists_every_segment_and_they_are_tried_again(
    table: Path, tmp_path: Path
) -> None:
    rows = [f"{table.parent}/{f}.mp4,c,{n},{n + 1}," for f in (1, 2) for n in (1, 3, 5)]
    path, out = _table(tmp_path / "set.csv", *rows), tmp_path / "out"
    assert "none of the videos (6)" in fault_of(
        ingest, from_csv(path), out, recipe=_CHEAP, time_limit_s=0.001
    )
    lines = (out / SKIPPED_NAME).read_text().splitlines()
    assert len(lines) == 6
    assert all("not done within 0.001 s" in json.loads(line)["reason"] for line in lines)
    assert ingest(from_csv(path), out, recipe=_CHEAP).num_videos == 6


def test_copy_has_no_segments(table: Path, tmp_path: Path) -> None:
    message = fault_of(ingest, from_csv(table), tmp_path / "out", recipe=Recipe(codec="copy"))
    assert "recipe copy: it stores whole files, but set has 24 segments" in message
    assert not (tmp_path / "out").exists()


def test_a_changed_time_does_not_continue_an_interrupted_run(table: Path, tmp_path: Path) -> None:
    rows = [f"{table.parent}/1.mp4,c,{n},{n + 1}," for n in range(3)]
    path, out = _table(tmp_path / "set.csv", *rows), tmp_path / "out"

    def stop(done: int, num_videos: int, key: str) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(from_csv(path), out, recipe=_CHEAP, progress=stop)
    _table(path, *rows[:2], rows[2].replace(",3,", ",4,"))
    assert "other videos, recipe, seed" in fault_of(ingest, from_csv(path), out, recipe=_CHEAP)
