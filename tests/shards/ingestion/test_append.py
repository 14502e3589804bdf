"""`--append`: new videos in new shards; what was there stays, also after a kill at any moment."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.files.local_store import LocalStore
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import SKIPPED_NAME
from shards.ingestion.ingest import ingest
from shards.ingestion.ingest_report import IngestReport
from shards.reader import ShardReader
from shards.sources.source import Dataset
from shards.sources.table import from_csv
from shards.summary import summarize
from shards.verification import verify
from tests.forks import running
from tests.make_videos import make_video
from tests.shards import damage
from tests.shards.helpers import fault_of, files_in

_HOW = {"recipe": Recipe(short_side_px=64), "shard_bytes": 20_000, "workers": 1}
_OLD = [
    "a0.mp4,a,train,g",
    "a1.mp4,a,train,",
    "b0.mp4,b,test,",
    "b1.mp4,b,train,",
    "bad.mp4,b,train,",
]
_NEW = ["a2.mp4,a,train,", "c0.mp4,c,train,", "c1.mp4,c,test,", "long.mp4,c,train,"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine good videos and a bad one; the last one is long enough to be killed in its encoding."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("a0", "a1", "b0", "b1", "a2", "c0", "c1", "long")):
        num_frames = 300 if name == "long" else 20
        make_video(folder / f"{name}.mp4", num_frames=num_frames, seed=seed)
    damage.truncated(folder / "bad.mp4")
    _table(folder, "old", _OLD)
    _table(folder, "new", _NEW)
    _table(folder, "all", [*_OLD[:4], *_NEW])
    return folder


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old videos as shards; read-only."""
    out = tmp_path_factory.mktemp("finished") / "set"
    ingest(from_csv(root / "old.csv"), out, **_HOW)  # type: ignore[arg-type]
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(finished, tmp_path / "set"))


def _table(folder: Path, name: str, rows: list[str]) -> Path:
    path = folder / f"{name}.csv"
    path.write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    return path


def _append(dataset: Dataset, out: Path, **options: object) -> IngestReport:
    return ingest(dataset, out, append=True, **{**_HOW, **options})  # type: ignore[arg-type]


def _append_table(table: Path, out: Path) -> None:
    _append(from_csv(table, min_per_class=1), out)


def _videos_in(out: str | Path) -> dict[str, bytes]:
    manifest = read_manifest(out)
    with ShardReader(manifest) as reader:
        return {key: reader.read(row) for row, key in enumerate(manifest.keys)}


def test_old_shards_stay_and_both_states_are_whole(root: Path, finished: Path, out: Path) -> None:
    old, before = read_manifest(out), files_in(out)
    report = _append(from_csv(root / "new.csv", min_per_class=1), out)
    assert (report.num_added, report.num_videos, report.earlier) == (4, 8, old.digest)
    now, after = read_manifest(out), files_in(out)
    assert now.digest == report.digest != old.digest
    shards = {name for name in before if name.startswith("shard-")}
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}
    assert now.table.slice(0, len(old)).equals(old.table)
    assert now.classes == ("a", "b", "c")
    assert verify(out, decode=True) == []
    for digest in (old.digest, old.digest[:8]):
        earlier = read_manifest(f"{out}@{digest}")
        assert (earlier.digest, earlier.classes) == (old.digest, ("a", "b"))
        assert earlier.table.equals(old.table)
        assert verify(f"{out}@{digest}", decode=True) == []
    assert _videos_in(f"{out}@{old.digest}") == _videos_in(finished)
    assert summarize(f"{out}@{old.digest[:8]}") == summarize(finished)
    assert not any(path.is_dir() for path in out.iterdir())


def test_old_videos_in_the_list_are_not_stored_again(
    root: Path, finished: Path, tmp_path: Path
) -> None:
    trees = []
    for name in ("new", "all"):
        out = Path(shutil.copytree(finished, tmp_path / name))
        _append(from_csv(root / f"{name}.csv", min_per_class=1), out)
        trees.append(
            {k: v for k, v in files_in(out).items() if k.startswith(("shard", "manifest"))}
        )
    assert trees[0] == trees[1]


def test_a_second_run_changes_nothing(root: Path, out: Path) -> None:
    first = _append(from_csv(root / "new.csv", min_per_class=1), out)
    before = files_in(out)
    second = _append(from_csv(root / "new.csv", min_per_class=1), out)
    assert second.already_done
    assert (second.digest, second.num_added) == (first.digest, 0)
    assert files_in(out) == before


def test_every_state_stays_readable(root: Path, out: Path, tmp_path: Path) -> None:
    digests = [read_manifest(out).digest]
    for index in range(2):
        table = _table(root, f"step{index}", _NEW[index : index + 1])
        digests.append(_append(from_csv(table, min_per_class=1), out).digest)
    assert len(set(digests)) == 3
    for num_new, digest in enumerate(digests):
        assert len(read_manifest(f"{out}@{digest}")) == 4 + num_new
        assert verify(f"{out}@{digest}") == []
    message = fault_of(read_manifest, f"{out}@{'0' * 8}")
    assert f"{out}: has no state 00000000; choose one of" in message
    assert all(digest[:16] in message for digest in digests)


class _KilledError(BaseException):
    """Stands for a kill: no handler of the code under test catches it."""


def _killed_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on, change `number` of any folder (0-based) does not happen, nor any after it."""
    count = 0

    def dying(change: Callable[..., None]) -> Callable[..., None]:
        def changed(*args: object) -> None:
            nonlocal count
            count += 1
            if count > number:
                raise _KilledError
            change(*args)

        return changed

    for name in ("put_bytes", "put_file", "remove", "clear"):
        monkeypatch.setattr(LocalStore, name, dying(getattr(LocalStore, name)))
    return monkeypatch.undo


def test_killed_before_any_change_the_set_is_whole_and_a_second_run_completes_it(
    root: Path, finished: Path, tmp_path: Path
) -> None:
    dataset = from_csv(_table(root, "one", _NEW[1:2]), min_per_class=1)
    whole = Path(shutil.copytree(finished, tmp_path / "whole"))
    expected = _append(dataset, whole)
    old = read_manifest(finished).digest
    number, is_done = 0, False
    while not is_done:
        out = Path(shutil.copytree(finished, tmp_path / f"out{number}"))
        with pytest.MonkeyPatch.context() as patch:
            _killed_at(number, patch)
            try:
                _append(dataset, out)
                is_done = True
            except _KilledError:
                pass
        assert read_manifest(out).digest in (old, expected.digest)
        assert verify(out) == []
        assert verify(f"{out}@{old}") == []
        assert _append(dataset, out).digest == expected.digest
        assert files_in(out) == files_in(whole)
        assert not any(path.is_dir() for path in out.iterdir())
        number += 1
    assert number > 8


def test_after_kill_9_a_second_run_gives_the_same_bytes(
    root: Path, out: Path, tmp_path: Path
) -> None:
    whole = Path(shutil.copytree(out, tmp_path / "whole"))
    _append(from_csv(root / "new.csv", min_per_class=1), whole)
    old = read_manifest(out).digest
    num_old = len(list(out.glob("*.tar")))
    with running(_append_table, root / "new.csv", out) as process:
        while len(list(out.glob("*.tar"))) < num_old + 2:
            assert process.exitcode is None
            time.sleep(0.002)
    assert process.exitcode == -signal.SIGKILL
    assert read_manifest(out).digest == old
    assert verify(out) == []
    # The plain command still knows its finished set, and leaves the unfinished work alone.
    plain = ingest(from_csv(root / "old.csv"), out, **_HOW)  # type: ignore[arg-type]
    assert (plain.already_done, plain.digest) == (True, old)
    other = _table(root, "other", ["c0.mp4,c,train,"])
    message = fault_of(_append, from_csv(other, min_per_class=1), out)
    assert "other videos" in message
    assert f"delete {out}/.ingest and the shards from shard-00000{num_old}.tar on" in message
    report = _append(from_csv(root / "new.csv", min_per_class=1), out)
    assert report.num_resumed > 0
    assert files_in(out) == files_in(whole)


def test_videos_that_were_left_out_are_tried_again(root: Path, out: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(root, tmp_path / "videos"))
    rows = [*_OLD, "gone.mp4,c,train,", "new.mp4,c,train,"]
    damage.text(folder / "new.mp4")
    before = read_manifest(out).digest
    report = _append(from_csv(_table(folder, "t", rows)), out)
    assert (report.num_added, report.earlier, report.digest) == (0, "", before)
    assert (report.num_skipped, report.num_missing) == (2, 1)
    assert _left_out(out) == ["bad.mp4", "new.mp4", "gone.mp4"]
    assert not list(out.glob("*-*.json"))
    for seed, name in enumerate(("bad", "new", "gone"), 20):
        make_video(folder / f"{name}.mp4", num_frames=8, seed=seed)
    report = _append(from_csv(_table(folder, "t", rows)), out)
    assert (report.num_added, report.num_skipped, report.num_missing) == (3, 0, 0)
    assert _left_out(out) == []
    assert verify(out) == []


def test_a_bad_video_that_was_added_is_no_fault_of_the_others(root: Path, tmp_path: Path) -> None:
    """The plain command with --strict looks only at its own videos."""
    good, bad = _table(root, "good", _OLD[:2]), _table(root, "bad", ["bad.mp4,a,train,"])
    out = tmp_path / "set"
    ingest(from_csv(good), out, **_HOW)  # type: ignore[arg-type]
    assert _append(from_csv(bad, min_per_class=1), out).num_skipped == 1
    again = ingest(from_csv(good), out, strict=True, **_HOW)  # type: ignore[arg-type]
    assert again.already_done
    assert _left_out(out) == ["bad.mp4"]


def test_a_missing_video_is_listed_also_if_nothing_is_new(root: Path, out: Path) -> None:
    before = read_manifest(out).digest
    dataset = from_csv(_table(root, "t", [_OLD[0], "gone.mp4,a,train,"]), min_per_class=1)
    report = _append(dataset, out)
    assert (report.num_added, report.num_missing, report.digest) == (0, 1, before)
    assert _left_out(out) == ["bad.mp4", "gone.mp4"]
    assert _append(dataset, out).already_done


def test_shards_of_unknown_origin_are_named(root: Path, out: Path) -> None:
    """So that nobody deletes those of the finished set."""
    num_old = len(list(out.glob("*.tar")))
    stray = out / f"shard-{num_old:06}.tar"
    stray.write_bytes(b"mine")
    message = fault_of(_append, from_csv(root / "new.csv", min_per_class=1), out)
    assert f"holds shards of unknown origin, from {stray.name} on" in message
    assert stray.read_bytes() == b"mine"


def _left_out(out: Path) -> list[str]:
    return [json.loads(line)["source"] for line in (out / SKIPPED_NAME).read_text().splitlines()]


def test_a_video_that_the_set_has_under_another_name_is_not_stored_twice(
    root: Path, out: Path, tmp_path: Path
) -> None:
    for name in ("copy", "c0"):
        shutil.copy(root / f"{'a0' if name == 'copy' else name}.mp4", tmp_path / f"{name}.mp4")
    table = _table(tmp_path, "t", ["copy.mp4,a,train,", "c0.mp4,c,train,"])
    report = _append(from_csv(table, min_per_class=1), out)
    assert (report.num_added, report.num_skipped) == (1, 2)
    lines = (out / SKIPPED_NAME).read_text().splitlines()
    assert json.loads(lines[-1])["reason"] == "the same video is in the set, as a0"


def test_a_key_that_is_taken_gets_a_hash(root: Path, out: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "more" / "a0.mp4", num_frames=8, seed=30)
    table = _table(tmp_path, "t", ["more/a0.mp4,a,train,"])
    _append(from_csv(table, min_per_class=1), out)
    keys = read_manifest(out).keys
    assert keys.count("a0") == 1
    assert sum(key.startswith("a0-") for key in keys) == 1


@pytest.mark.parametrize(
    ("rows", "options", "expected"),
    [
        (
            _NEW,
            {"recipe": Recipe(short_side_px=64, quality=30)},
            "quality is 30, but the set has 18",
        ),
        (_NEW, {"recipe": Recipe(short_side_px=64, fps=5)}, "fps is 5, but the set has None"),
        (_NEW, {"recipe": Recipe(codec="mjpeg")}, "recipe is mjpeg, but the set has h264"),
        (_NEW, {"recipe": Recipe()}, "short side is 256, but the set has 64"),
        (_NEW, {"seed": 1}, "seed is 1, but the set has 0"),
        (["a2.mp4,aa,train,"], {}, "class 'aa' is new and comes before 'b', whose label would"),
        (["a0.mp4,b,train,g"], {}, "a0.mp4: class b, but a in the set, where it is a0"),
        (["a0.mp4,a,test,g"], {}, "a0.mp4: splits test, but train in the set"),
        (["a0.mp4,a,,g"], {}, "a0.mp4: splits unused, but train in the set"),
        (["a0.mp4,a,train,h"], {}, "a0.mp4: group h, but g in the set"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    root: Path, out: Path, rows: list[str], options: dict[str, object], expected: str
) -> None:
    before = files_in(out)
    dataset = from_csv(_table(root, "wrong", rows), min_per_class=1)
    assert expected in fault_of(_append, dataset, out, **options)
    assert files_in(out) == before
    assert not (out / ".ingest").exists()


def test_a_file_that_changed_is_refused(root: Path, out: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "a0.mp4", num_frames=9)
    dataset = from_csv(_table(tmp_path, "t", ["a0.mp4,a,train,g"]), min_per_class=1)
    assert "a0.mp4: bytes" in fault_of(_append, dataset, out)


def test_there_must_be_a_finished_set(root: Path, out: Path, tmp_path: Path) -> None:
    dataset = from_csv(root / "new.csv", min_per_class=1)
    assert "no such folder" in fault_of(_append, dataset, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "not a shards folder, or `tb shard` has not finished" in fault_of(
        _append, dataset, tmp_path / "empty"
    )
    assert not list((tmp_path / "empty").iterdir())
    with pytest.raises(InputError, match="it is an earlier state, which never changes"):
        _append(dataset, Path(f"{out}@{read_manifest(out).digest[:8]}"))


def test_without_append_a_finished_set_takes_no_other_videos(root: Path, out: Path) -> None:
    message = fault_of(ingest, from_csv(root / "all.csv"), out, **_HOW)
    assert "add new videos with --append" in message
