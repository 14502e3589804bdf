"""DALI gets the same from the loader process as from threads here."""

import os
import signal
import threading
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from loaders import Batch, DaliLayout, LoaderError, Skip, open_loader
from loaders.engines.dali.reading import SampleReader, max_sample_bytes
from loaders.loader_process.process import LoaderProcess
from loaders.loader_process.process_producer import DaliProducer
from loaders.loader_process.ring import Ring
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tests.loaders.columns import with_column, without_index
from tests.loaders.engines.dali.conftest import Shards, skip_undecoded
from tests.loaders.meeting import meeting
from tests.paired import paired

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
pytestmark = pytest.mark.usefixtures("kept_process")

LAYOUT = DaliLayout(num_pipelines=2, depth=2)


def _options(device: str, **options: Any) -> dict[str, Any]:
    return {"engine": "dali", "device": device, "batch_size": 2, "num_workers": 2, **options}


def _assert_same(ours: Batch, theirs: Batch) -> None:
    assert ours.keys == theirs.keys
    for name, value in vars(ours.plan).items():
        np.testing.assert_array_equal(value, getattr(theirs.plan, name), err_msg=name)
    for mine, other in zip(ours.views.values(), theirs.views.values(), strict=True):
        assert mine.device == other.device
        assert torch.equal(mine, other)


# DALI decodes vp9 and mjpeg on the CPU. PyAV decodes h264 for it, so that pictures are handed over.
@pytest.mark.parametrize(
    ("codec", "has_index"),
    [
        pytest.param("vp9", True, id="vp9-windows"),
        pytest.param("h264", False, id="h264-files"),
        pytest.param("vp9", False, id="vp9-files", marks=pytest.mark.slow),
        pytest.param("h264", True, id="h264-windows", marks=pytest.mark.slow),
        pytest.param("mjpeg", True, id="mjpeg-windows", marks=pytest.mark.slow),
        pytest.param("mjpeg", False, id="mjpeg-files", marks=pytest.mark.slow),
    ],
)
def test_batches_and_resume_are_those_of_threads_here(
    shards: Shards, tiny: ViewSpec, codec: str, has_index: bool, device: str
) -> None:
    """For longer than the ring has slots, with four batches in DALI and the views kept."""
    skip_undecoded(codec, device)
    manifest = shards(codec) if has_index else without_index(shards(codec))
    options = _options(device, layout=LAYOUT)
    with (
        open_loader(manifest, tiny, in_process=False, **options) as beside,
        open_loader(manifest, tiny, in_process=True, **options) as here,
    ):
        ours, theirs = list(islice(beside.stream(), 14)), list(islice(here.stream(), 14))
        for pair in paired(ours, theirs):
            _assert_same(*pair)
        for pair in paired(islice(beside.stream(9), 3), theirs[9:12]):
            _assert_same(*pair)
        for pair in paired(beside.batches(1), here.batches(1)):
            _assert_same(*pair)


def test_no_thread_here_reads(shards: Shards, tiny: ViewSpec, device: str) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with open_loader(shards("vp9"), tiny, in_process=False, **_options(device)) as loader:
        list(islice(loader.stream(), 3))
        assert {thread.name for thread in threading.enumerate()} <= before


def test_two_iterations_at_a_time_do_not_mix(shards: Shards, tiny: ViewSpec, device: str) -> None:
    with (
        open_loader(shards("vp9"), tiny, in_process=False, **_options(device)) as beside,
        open_loader(shards("vp9"), tiny, in_process=True, **_options(device)) as here,
    ):
        mixed = zip(beside.batches(0), beside.batches(2), strict=True)
        for ours, theirs in paired(mixed, zip(here.batches(0), here.batches(2), strict=True)):
            for pair in zip(ours, theirs, strict=True):
                _assert_same(*pair)


def test_what_dali_cannot_decode_is_skipped_and_named(
    shards: Shards, tiny: ViewSpec, device: str
) -> None:
    """One video's digest does not fit; of another one, the manifest promises too many frames."""
    manifest = without_index(shards("vp9"))
    digests = manifest.table.column("sha256").to_pylist()
    lengths = manifest.num_frames.tolist()
    changed = with_column(manifest, "sha256", [*digests[:3], "0" * 64, *digests[4:]])
    changed = with_column(changed, "num_frames", [lengths[0], 3000, *lengths[2:]])
    found = []
    for in_process in (True, False):
        options = _options(device, shuffle=False, on_error=Skip(max_bad_share=1.0))
        with open_loader(changed, tiny, in_process=in_process, layout=LAYOUT, **options) as loader:
            found.append((list(loader.batches(0)), dict(loader.bad)))
    (theirs, reasons), (ours, our_reasons) = found
    assert our_reasons == reasons
    assert "sha256 differs" in reasons[manifest.keys[3]]
    for pair in paired(ours, theirs):
        _assert_same(*pair)
        assert torch.equal(pair[0].valid, pair[1].valid)


def test_a_changed_shard_ends_the_run_by_name(shards: Shards, tiny: ViewSpec, device: str) -> None:
    manifest = without_index(shards("vp9"))
    digests = manifest.table.column("sha256").to_pylist()
    changed = with_column(manifest, "sha256", [*digests[:4], "0" * 64, *digests[5:]])
    options = _options(device, shuffle=False, in_process=False)
    with open_loader(changed, tiny, **options) as loader:
        batches, video = loader.batches(0), manifest.video(4)
        assert [next(batches).valid.tolist() for _ in range(2)] == [[True, True]] * 2
        with pytest.raises(LoaderError, match=f"{video.key} in .*{video.shard}: .*sha256 differs"):
            next(batches)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_the_death_of_the_loader_process_is_an_error_that_says_how(
    shards: Shards, tiny: ViewSpec, device: str, number: signal.Signals, new_process: LoaderProcess
) -> None:
    with open_loader(shards("vp9"), tiny, in_process=False, **_options(device)) as loader:
        assert isinstance(loader.producer, DaliProducer)
        assert loader.producer.process is new_process
        batches = loader.stream()
        next(batches)
        os.kill(new_process.pid, number)
        with pytest.raises(LoaderError, match=f"was killed by {number.name}"):
            for _ in batches:
                pass


def test_the_memory_of_videos_is_bounded(shards: Shards, tiny: ViewSpec, device: str) -> None:
    """A page takes room once it is written, so each slot takes what its largest batch took."""
    manifest = shards("vp9")
    largest = max_sample_bytes(manifest, np.arange(len(manifest)), tiny, decodes=True)
    with open_loader(manifest, tiny, in_process=False, **_options(device)) as loader:
        list(islice(loader.stream(), 30))
        # Two batches are read ahead, one is made, and DALI has two; one more comes next.
        assert 0 < _ring_bytes() <= 6 * 2 * largest


def test_no_batch_of_videos_is_copied(
    shards: Shards, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DALI lets go of batches in time, so none exceeds the number that may be kept."""
    are_shared, views = [], Ring.views

    def noted(ring: Ring, slot: int) -> list[np.ndarray]:
        arrays = views(ring, slot)
        are_shared.append(np.shares_memory(arrays[0], ring.memory))
        return arrays

    monkeypatch.setattr(Ring, "views", noted)
    with open_loader(shards("vp9"), tiny, in_process=False, **_options(device)) as loader:
        list(islice(loader.stream(), 30))
    assert len(are_shared) >= 30
    assert all(are_shared)


def test_all_threads_read_at_once_in_small_batches(
    shards: Shards, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = shards("vp9")
    with open_loader(manifest, tiny, in_process=True, **_options(device)) as loader:
        expected = list(islice(loader.stream(), 8))
    monkeypatch.setattr(SampleReader, "_load", meeting(SampleReader._load, 12))
    options = _options(device, num_workers=12)
    with open_loader(manifest, tiny, in_process=True, **options) as loader:
        for pair in paired(expected, islice(loader.stream(), 8)):
            _assert_same(*pair)


def _ring_bytes() -> int:
    """The memory of rings that is in use, as the system counts it."""
    total = 0
    for descriptor in os.scandir("/proc/self/fd"):
        try:
            if "timebalance-loader" in os.readlink(descriptor.path):
                total += os.stat(descriptor.path).st_blocks * 512
        except FileNotFoundError:
            pass  # the descriptor of the folder itself
    return total


@pytest.mark.parametrize("codec", ["vp9", "h264"])
@pytest.mark.parametrize("has_index", [True, False], ids=["windows", "files"])
def test_no_sample_is_larger_than_its_bound(
    shards: Shards, tiny: ViewSpec, codec: str, has_index: bool
) -> None:
    from loaders.engines.dali.engine import DaliEngine

    manifest: Manifest = shards(codec) if has_index else without_index(shards(codec))
    with (
        open_loader(manifest, tiny, **_options("cpu", in_process=True)) as loader,
        ShardReader(manifest) as reader,
    ):
        assert isinstance(loader.engine, DaliEngine)
        for (plan,) in paired(islice(loader.planner.stream(), 8)):
            samples = loader.engine.read(reader, plan).samples
            assert samples
            for b, sample in samples.items():
                row = plan.rows[b : b + 1]
                bound = max_sample_bytes(manifest, row, tiny, decodes=loader.engine.decodes)
                assert sample.data.size <= bound
