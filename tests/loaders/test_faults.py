"""Damage and stops while a loader reads, on real files and in real processes."""

import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from loaders import Loader, LoaderError, Skip, open_loader
from loaders.engines.fused import render_video
from loaders.plan.views import ViewSpec
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.forks import FORKS, running, write_outputs
from tests.loaders.first_code import run_first
from tests.loaders.shared_memory import shared_memory
from tests.make_videos import make_video
from tests.paired import paired

# With threads here, and with the loader process.
pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def copied(
    numbered_shards: Manifest, read_as: Callable[[Manifest], Manifest], tmp_path: Path
) -> Manifest:
    """A copy of the shards that a test may damage, read by windows and as whole files."""
    shutil.copytree(numbered_shards.root, tmp_path / "shards")
    return read_as(read_manifest(tmp_path / "shards"))


def _damage(manifest: Manifest, row: int) -> str:
    """Changes every GOP of one video; returns its key."""
    video = manifest.video(row)
    with (manifest.root / video.shard).open("r+b") as file:
        for place in range(40, video.size - 6, 60):
            file.seek(video.offset + place)
            file.write(b"damage")
    return video.key


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_a_bad_video_stops_the_run_by_name(
    copied: Manifest, tiny_views: ViewSpec, engine: str
) -> None:
    key, shard = _damage(copied, 5), copied.video(5).shard
    with pytest.raises(LoaderError, match=rf"{key}.*{shard}.*(checksum|sha256) differs"):
        list(open_loader(copied, tiny_views, engine=engine).batches(0))


@pytest.mark.parametrize("column", ["height", "width"])
@pytest.mark.parametrize("codec", ["h264", "copy"])
@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_pictures_smaller_than_the_manifest_says_are_never_cropped(
    tiny_views: ViewSpec, tmp_path: Path, engine: str, codec: str, column: str
) -> None:
    make_video(tmp_path / "videos" / "a" / "small.mp4", num_frames=20)
    dataset = from_folder(tmp_path / "videos", min_per_class=1)
    ingest(dataset, tmp_path / "shards", recipe=Recipe(codec=codec), workers=1)
    honest = read_manifest(tmp_path / "shards")
    place = honest.table.column_names.index(column)
    lie = honest.table.set_column(place, honest.table.field(column), pa.chunked_array([[6000]]))
    loader = open_loader(replace(honest, table=lie), tiny_views, engine=engine, batch_size=1)
    with pytest.raises(LoaderError, match=r"small.*picture of 96x128"):
        list(loader.batches(0))


def test_a_bad_video_is_skipped_and_listed(
    copied: Manifest, tiny_views: ViewSpec, tmp_path: Path
) -> None:
    whole = {
        batch.keys[0]: batch for batch in open_loader(copied, tiny_views, batch_size=1).batches(0)
    }
    key = _damage(copied, 5)
    loader = open_loader(
        copied, tiny_views, on_error=Skip(bad_list=tmp_path / "bad.jsonl"), batch_size=4
    )
    for epoch in (0, 0):
        for batch in loader.batches(epoch):
            for b, name in enumerate(batch.keys):
                assert batch.valid[b] == (name not in ("", key))
                assert (b in batch.bad) == (name == key)
                views = {group: tensor[b] for group, tensor in batch.views.items()}
                if batch.valid[b]:
                    assert all(
                        torch.equal(whole[name].views[group][0], view)
                        for group, view in views.items()
                    )
                else:
                    assert batch.labels[b] == -1
                    assert all((view == 0).all() for view in views.values())
    assert list(loader.bad) == [key]
    (line,) = (tmp_path / "bad.jsonl").read_text().splitlines()
    assert json.loads(line) == {"key": key, "reason": loader.bad[key]}


@pytest.fixture
def url(numbered_shards: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the shards that is read as a remote one, also by another process."""
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(numbered_shards.root, tmp_path / "remote")
    return f"local:///{tmp_path}/remote"


def test_a_remote_shard_that_is_gone_is_skipped_and_named(
    numbered_shards: Manifest, tiny_views: ViewSpec, tmp_path: Path, url: str
) -> None:
    gone = numbered_shards.shard_names[0]
    lost = set(np.flatnonzero(numbered_shards.shard_index == 0).tolist())
    (tmp_path / "remote" / gone).unlink()
    with pytest.raises(LoaderError, match=rf" in .*{gone}: "):
        list(open_loader(url, tiny_views).batches(0))
    loader = open_loader(url, tiny_views, on_error=Skip(max_bad_share=1.0))
    served = {key for batch in loader.batches(0) for key in np.array(batch.keys)[batch.valid]}
    assert loader.bad.keys() == {numbered_shards.keys[row] for row in lost}
    assert served == set(numbered_shards.keys) - loader.bad.keys()
    assert all(f"{key} in " in reason for key, reason in loader.bad.items())


def test_a_cache_that_cannot_be_written_is_no_bad_video(url: str, tiny_views: ViewSpec) -> None:
    loader = open_loader(url, tiny_views, on_error=Skip(max_bad_share=1.0))
    loader.manifest.root.rmdir()
    loader.manifest.root.touch()
    with pytest.raises(InputError, match=r"cache.*: Not a directory; set TIMEBALANCE_CACHE"):
        list(loader.batches(0))
    assert not loader.bad


def test_a_bad_video_counts_with_all_its_clips(copied: Manifest, tiny_views: ViewSpec) -> None:
    """One of 11 videos is bad. That is a share of 1/11 for any number of clips."""
    key = _damage(copied, 5)
    skip = Skip(max_bad_share=0.095)
    loader = open_loader(copied, tiny_views, on_error=skip, clips_per_video=3, batch_size=4)
    assert sum(int(batch.valid.sum()) for batch in loader.batches(0)) == 30
    assert list(loader.bad) == [key]
    skip = Skip(max_bad_share=0.09)
    loader = open_loader(copied, tiny_views, on_error=skip, clips_per_video=3, batch_size=4)
    with pytest.raises(LoaderError, match=r"^3 bad videos .* of 33 \(a video counts 3 times"):
        list(loader.batches(0))


def test_too_many_bad_videos_fail_the_run(copied: Manifest, tiny_views: ViewSpec) -> None:
    for row in (1, 4, 7):
        _damage(copied, row)
    loader = open_loader(copied, tiny_views, on_error=Skip(max_bad_share=0.2))
    with pytest.raises(LoaderError, match=r"3 bad videos in epoch 0, more than max_bad_share 0.2"):
        list(loader.batches(0))
    tolerant = open_loader(copied, tiny_views, on_error=Skip(max_bad_share=0.3))
    assert sum(int(batch.valid.sum()) for batch in tolerant.batches(0)) == 8


def test_a_bad_list_that_cannot_be_written_is_named(
    copied: Manifest, tiny_views: ViewSpec, tmp_path: Path
) -> None:
    _damage(copied, 5)
    bad_list = tmp_path / "missing" / "bad.jsonl"
    loader = open_loader(copied, tiny_views, on_error=Skip(bad_list=bad_list))
    with pytest.raises(InputError, match=r"bad_list .*bad.jsonl: No such file"):
        list(loader.batches(0))


def _delete(path: Path) -> None:
    path.unlink()


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 8)


def _overwrite(path: Path) -> None:
    data = np.random.default_rng(0).bytes(path.stat().st_size)
    with path.open("r+b") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_delete, "No such file"),
        (_truncate, "ends .* bytes too early"),
        (_overwrite, "(checksum|sha256) differs"),
    ],
)
def test_a_shard_that_changes_while_reading_is_named(
    copied: Manifest, tiny_views: ViewSpec, change: Callable[[Path], None], reason: str
) -> None:
    loader = open_loader(copied, tiny_views, batch_size=1, shuffle=False, num_workers=1)
    assert len(copied.shard_names) > 2
    batches = loader.batches(0)
    next(batches)
    last = copied.shard_names[-1]
    change(copied.root / last)
    with pytest.raises(LoaderError, match=rf"{last}: .*{reason}"):
        list(batches)


_DYING = """
def die(*_):
    raise {failure}("worker")

import loaders.engines.fused.render_video
loaders.engines.fused.render_video.render_video = die
"""


@pytest.mark.parametrize(
    "failure", [MemoryError, SystemExit, ZeroDivisionError, EOFError, ConnectionResetError]
)
def test_a_dying_worker_is_noticed_at_once(
    numbered_shards: Manifest,
    tiny_views: ViewSpec,
    place: str,
    failure: type[BaseException],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying = _DYING.format(failure=failure.__name__)
    if place == "loader process":
        run_first(dying, tmp_path, monkeypatch)
    else:
        monkeypatch.setattr(render_video, "render_video", render_video.render_video)  # restores it
        exec(dying, {})
    loader = open_loader(numbered_shards, tiny_views, on_error="skip")
    with pytest.raises(failure, match="worker"):
        list(loader.batches(0))


def _report_batches(shards: Path, place: str, folder: Path, received: Connection) -> None:
    write_outputs(folder)
    # A process in the background ignores SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    in_process = place == "threads here"
    loader = open_loader(shards, "pretrain", size_px=64, num_workers=2, in_process=in_process)
    for _ in loader.stream():
        received.send("batch")


def test_ctrl_c_ends_the_stream(numbered_shards: Manifest, place: str, tmp_path: Path) -> None:
    ours, theirs = FORKS.Pipe(duplex=False)
    arguments = (numbered_shards.root, place, tmp_path, theirs)
    with running(_report_batches, *arguments) as process:
        theirs.close()  # if the process dies, `recv` raises an error
        for _ in range(3):
            assert ours.recv() == "batch"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        # The stream has no end of its own; the limit is far above what Ctrl-C takes.
        process.join(120)
        assert process.exitcode == 1
    assert (tmp_path / "stderr").read_text().rstrip().endswith("KeyboardInterrupt")


_ENDLESS = """
import signal
import sys
from loaders import open_loader
# A process in the background ignores SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)
options = {"size_px": 64, "num_workers": 2, "in_process": sys.argv[2] == "threads here"}
for batch in open_loader(sys.argv[1], "pretrain", **options).stream():
    print("batch", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_ends_a_program_without_further_complaints(
    numbered_shards: Manifest, place: str
) -> None:
    """A forked process ends without the work that Python does at the end of a program."""
    command = [sys.executable, "-c", _ENDLESS, str(numbered_shards.root), place]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            for _ in range(3):
                assert process.stdout.readline() == "batch\n"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")


def test_a_batch_that_is_kept_is_never_written_to(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    loader = open_loader(numbered_shards, tiny_views, batch_size=2)
    kept, copies = [], []
    for batch in islice(loader.stream(), 20):
        kept.append(batch.views["short"][0])  # one video's view keeps the whole batch
        copies.append(kept[-1].clone())
    assert all(torch.equal(one, other) for one, other in paired(kept, copies))


def test_two_iterations_at_once_do_not_share_memory(
    numbered_shards: Manifest, tiny_views: ViewSpec
) -> None:
    loader = open_loader(numbered_shards, tiny_views, batch_size=2, num_workers=1)

    def sums(epoch: int) -> list[float]:
        found = [float(batch.views["short"].double().sum()) for batch in loader.batches(epoch)]
        assert len(found) == len(loader)
        return found

    expected = [sums(epoch) for epoch in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(sums, range(8))) == expected


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _use(loader: Loader, num_epochs: int) -> None:
    for epoch in range(num_epochs):
        for _ in loader.batches(epoch):
            pass
    # Two ways to stop in the middle: close the generator, or drop it.
    generator = loader.stream()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    for _ in loader.batches(0):
        break


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files"
)


@needs_proc
def test_no_threads_or_files_stay_behind(
    numbered_shards: Manifest, read_as: Callable[[Manifest], Manifest], tiny_views: ViewSpec
) -> None:
    loader = open_loader(read_as(numbered_shards), tiny_views, batch_size=2, num_workers=2)
    _use(loader, 1)
    gc.collect()
    before = (threading.active_count(), _open_files())
    _use(loader, 3)
    gc.collect()
    assert (threading.active_count(), _open_files()) == before


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


@needs_proc
@pytest.mark.slow
def test_nothing_leaks_over_100_epochs(
    textured_shards: Manifest,
    numbered_shards: Manifest,
    read_as: Callable[[Manifest], Manifest],
    tiny_views: ViewSpec,
) -> None:
    loader = open_loader(read_as(numbered_shards), tiny_views, batch_size=2, num_workers=2)
    large = open_loader(read_as(textured_shards), "pretrain", batch_size=2, num_workers=2)
    _use(loader, 20)
    _use(large, 5)
    gc.collect()
    threads, files, resident_mb = threading.active_count(), _open_files(), _resident_mb()
    shared = shared_memory()
    _use(loader, 100)
    _use(large, 100)
    gc.collect()
    assert (threading.active_count(), _open_files()) == (threads, files)
    assert shared_memory() <= shared
    assert _resident_mb() - resident_mb < 30


def test_a_share_is_a_share() -> None:
    for share in (2.0, -0.1):
        with pytest.raises(InputError, match=f"max_bad_share is {share}"):
            Skip(max_bad_share=share)
