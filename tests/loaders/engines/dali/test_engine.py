"""The DALI engine agrees with the oracle, and the loader keeps its promises with it.

Everything that holds on the CPU must also hold on a GPU, where NVDEC decodes. So the device is a
parameter of every test of the engine.
"""

import gc
import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders import Batch, DaliLayout, Loader, TryLayouts, open_loader
from loaders.engines.dali import trials
from loaders.engines.dali.graph import Graph
from loaders.engines.dali.layout import Axis, DaliViews, Trial, choose, usual_layout
from loaders.plan import stage_views
from loaders.plan.normalization import NORMALIZATIONS
from loaders.plan.views import ViewSpec
from shards.format.manifest import Manifest
from tests.loaders.columns import without_index
from tests.loaders.engines.dali.conftest import NUM_VIDEOS, Shards, skip_undecoded
from tests.loaders.engines.parity import assert_parity
from tests.loaders.engines.test_parity import SPECS
from tests.paired import paired

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")


CODECS = ("h264", "vp9", "mjpeg", "mpeg4")


PRESETS = {
    "pretrain": stage_views.pretrain(num_frames=8, stride=2, size_px=48),
    "finetune": stage_views.finetune(size_px=48),
    "student_pair": stage_views.weak_strong(size_px=48),
    "similarity": stage_views.similarity(size_px=48),
    "eval": stage_views.evaluation(size_px=48, num_clips=2),
    "eval 3 crops": stage_views.evaluation(size_px=48, num_clips=1, num_crops=3),
}


# The GPU's conversion to RGB differs more than FFmpeg's two ways to convert.
LIMITS = {
    "cpu": {"max_mean_difference": 1 / 255, "min_psnr_db": 42.0},
    "cuda": {"max_mean_difference": 1.5 / 255, "min_psnr_db": 38.0},
}


Content = dict[str, bytes]


def _content(batches: Iterable[Batch]) -> Content:
    """Key -> the bytes of all its views."""
    content: Content = {}
    for batch in batches:
        for b in torch.nonzero(batch.valid).flatten().tolist():
            assert batch.keys[b] not in content
            parts = [batch.views[name][b].cpu().numpy() for name in sorted(batch.views)]
            content[batch.keys[b]] = b"".join(part.tobytes() for part in parts)
    assert content
    return content


def _same(ours: Batch, theirs: Batch) -> bool:
    return (
        ours.keys == theirs.keys
        and torch.equal(ours.labels, theirs.labels)
        and torch.equal(ours.valid, theirs.valid)
        and all(torch.equal(ours.views[name], theirs.views[name]) for name in theirs.views)
    )


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("codec", CODECS)
def test_every_preset_agrees_with_the_oracle(
    shards: Shards, codec: str, preset: str, device: str, tmp_path: Path
) -> None:
    skip_undecoded(codec, device)
    assert_parity(
        shards(codec), PRESETS[preset], tmp_path, engine="dali", device=device, **LIMITS[device]
    )


@pytest.mark.gpu
@pytest.mark.parametrize("preset", PRESETS)
def test_hevc_agrees_with_the_oracle(shards: Shards, preset: str, tmp_path: Path) -> None:
    assert_parity(
        shards("hevc"), PRESETS[preset], tmp_path, engine="dali", device="cuda", **LIMITS["cuda"]
    )


@pytest.mark.parametrize("codec", ["vp9", "h264"])
def test_every_operation_at_once_agrees_with_the_oracle(
    shards: Shards, codec: str, tiny: ViewSpec, device: str, tmp_path: Path
) -> None:
    spec = replace(tiny, size_px=48, normalization=NORMALIZATIONS["kinetics"])
    for one in (spec, replace(spec, normalization=None)):
        assert_parity(shards(codec), one, tmp_path, engine="dali", device=device, **LIMITS[device])


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_real_clips_agree_with_the_oracle(
    name: str, real_shards: Manifest, device: str, tmp_path: Path
) -> None:
    assert_parity(
        real_shards, SPECS[name], tmp_path, engine="dali", device=device, **LIMITS[device]
    )


@pytest.mark.parametrize("codec", ["vp9", "h264"])
def test_the_same_batches_for_any_layout(
    shards: Shards, codec: str, tiny: ViewSpec, device: str
) -> None:
    expected = _content(
        open_loader(
            shards(codec), tiny, engine="dali", device=device, batch_size=1, num_workers=1
        ).batches(0)
    )
    assert len(expected) == NUM_VIDEOS
    for batch_size, world_size, num_pipelines, depth in [
        (2, 1, 2, 1),
        (3, 1, 2, 2),
        (1, 2, 1, 3),
        (2, 3, 3, 1),
        (9, 1, 1, 1),
    ]:
        served: Content = {}
        for rank in range(world_size):
            loader = open_loader(
                shards(codec),
                tiny,
                engine="dali",
                device=device,
                batch_size=batch_size,
                rank=rank,
                world_size=world_size,
                layout=DaliLayout(num_pipelines=num_pipelines, depth=depth),
            )
            share = _content(loader.batches(0))
            assert not share.keys() & served.keys()
            served |= share
        assert served == expected


def test_batches_come_in_the_order_of_the_plan(shards: Shards, tiny: ViewSpec, device: str) -> None:
    loader = open_loader(
        shards("vp9"),
        tiny,
        engine="dali",
        device=device,
        batch_size=2,
        layout=DaliLayout(num_pipelines=2, depth=2),
    )
    for batch, plan in paired(loader.batches(3), loader.plans(3)):
        np.testing.assert_array_equal(batch.plan.rows, plan.rows)
        keys = [loader.manifest.keys[row] if row >= 0 else "" for row in plan.rows]
        assert list(batch.keys) == keys


def test_resume_equals_the_tail(shards: Shards, tiny: ViewSpec, device: str) -> None:
    loader = open_loader(shards("vp9"), tiny, engine="dali", device=device, batch_size=2)
    whole = list(loader.batches(epoch=1))
    for start in range(len(loader) + 1):
        tail = list(loader.batches(epoch=1, start=start))
        assert len(tail) == len(whole) - start
        assert all(_same(*pair) for pair in zip(tail, whole[start:], strict=True))
    stream = list(islice(loader.stream(), 6))
    tail = islice(loader.stream(4), 2)
    assert all(_same(*pair) for pair in paired(tail, stream[4:]))


@pytest.mark.parametrize("codec", ["vp9", "h264"])
def test_types_and_layout(shards: Shards, codec: str, tiny: ViewSpec, device: str) -> None:
    exact, half, byte = (
        next(
            open_loader(
                shards(codec), tiny, engine="dali", device=device, dtype=dtype, batch_size=3
            ).batches(0)
        ).views["short"]
        for dtype in ("float32", "float16", "uint8")
    )
    assert (exact.dtype, half.dtype, byte.dtype) == (torch.float32, torch.float16, torch.uint8)
    assert exact.device.type == device
    assert exact.shape == (3, 2, 2, 3, 4, 16, 16)
    flat = exact.flatten(0, 2)
    assert flat.is_contiguous(memory_format=torch.channels_last_3d)
    assert flat.data_ptr() == exact.data_ptr()
    assert exact.min() >= 0
    assert exact.max() <= 1
    assert (half.float() - exact).abs().max() <= 2**-11
    assert (byte.float() - exact * 255).abs().max() <= 0.5 + 1e-3


def test_padding_is_empty(shards: Shards, tiny: ViewSpec, device: str) -> None:
    loader = open_loader(shards("vp9"), tiny, engine="dali", device=device, batch_size=4)
    *_, last = loader.batches(0)
    assert last.valid.tolist() == [True, True, True, False]
    assert all((view[3] == 0).all() and (view[2] != 0).any() for view in last.views.values())


def test_a_batch_that_is_kept_is_never_written_to(
    shards: Shards, tiny: ViewSpec, device: str
) -> None:
    loader = open_loader(shards("vp9"), tiny, engine="dali", device=device, batch_size=2)
    kept, copies = [], []
    for batch in islice(loader.stream(), 12):
        kept.append(batch.views["short"][0])
        copies.append(kept[-1].clone())
    gc.collect()
    assert all(torch.equal(one, other) for one, other in paired(kept, copies))


def _use(loader: Loader) -> None:
    for _ in loader.batches(0):
        pass
    generator = loader.stream()  # stops in the middle
    next(generator)
    generator.close()


def test_no_threads_stay_behind(shards: Shards, tiny: ViewSpec, device: str) -> None:
    loader = open_loader(
        shards("vp9"),
        tiny,
        engine="dali",
        device=device,
        batch_size=2,
        layout=DaliLayout(num_pipelines=2, depth=2),
    )
    _use(loader)
    gc.collect()
    before = threading.active_count(), _num_tasks()
    for _ in range(3):
        _use(loader)
    gc.collect()
    assert (threading.active_count(), _num_tasks()) == before


def _num_tasks() -> int:
    """The number of threads of this process, with those outside Python; 0 without /proc."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 0


_UNFINISHED = """
import sys
from loaders import open_loader
batches = open_loader(
    sys.argv[1], "finetune", size_px=32, engine="dali", device=sys.argv[2], batch_size=2
).stream()
kept = [next(batches), next(batches)]
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_process_may_end_in_the_middle(shards: Shards, device: str) -> None:
    command = [sys.executable, "-W", "error", "-c", _UNFINISHED, str(shards("vp9").root), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_trials_find_a_layout_and_change_nothing(
    shards: Shards,
    tiny: ViewSpec,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = {"engine": "dali", "device": device, "batch_size": 2}
    plain = open_loader(shards("vp9"), tiny, **options)
    tried: list[list[Trial]] = []

    def recorded(found: list[Trial], limit: float | None) -> Trial:
        tried.append(found)
        return choose(found, limit)

    monkeypatch.setattr(trials, "choose", recorded)
    caplog.set_level(logging.INFO, "loaders")
    tuned = open_loader(shards("vp9"), tiny, **options, layout=TryLayouts())
    (found,) = tried
    layouts = [trial.layout for trial in found]
    assert layouts[0] == usual_layout(plain.engine.num_decoders, 2)
    assert len(set(layouts)) == len(layouts)
    assert {layout.num_pipelines for layout in layouts} == {1, 2, 4}
    assert {layout.depth for layout in layouts} == {1, 2}
    has_kernel = Axis.VIEWS in trials.axes_to_try(torch.device(device))
    assert {layout.views for layout in layouts} == set(DaliViews if has_kernel else ["operators"])
    assert all(trial.videos_per_s > 0 for trial in found)
    assert tuned.engine.layout == choose(found, None).layout
    assert any(str(tuned.engine.layout) in line and "limit" in line for line in caplog.messages)
    best = choose(found, None).layout

    tried.clear()
    monkeypatch.setattr(trials, "axes_to_try", lambda _: [Axis.DEPTH, Axis.VIEWS])
    fixed = open_loader(shards("vp9"), tiny, **options, layout=TryLayouts(views="operators"))
    assert fixed.engine.layout.views == "operators"
    assert [trial.layout.views for trial in tried[0]] == ["operators"] * 2

    plain = open_loader(
        shards("vp9"), tiny, **options, layout=replace(best, num_pipelines=1, depth=2)
    )
    assert _content(tuned.batches(0)) == _content(plain.batches(0))


def test_the_profile_reads(shards: Shards, tiny: ViewSpec, device: str) -> None:
    loader = open_loader(shards("vp9"), tiny, engine="dali", device=device, batch_size=2)
    profile = loader.profile(num_batches=3)
    assert profile.times.read_s > 0
    assert profile.times.decode_s > 0


@pytest.mark.parametrize("codec", ["h264", "vp9", "mjpeg"])
def test_windows_and_whole_files_give_the_same_batches(
    shards: Shards, codec: str, tiny: ViewSpec, device: str
) -> None:
    skip_undecoded(codec, device)
    assert shards(codec).has_packets.all()
    windows, whole = (
        open_loader(manifest, tiny, engine="dali", device=device, batch_size=2, seed=5).batches(1)
        for manifest in (shards(codec), without_index(shards(codec)))
    )
    pairs = list(paired(windows, whole))
    assert pairs
    assert all(_same(*pair) for pair in pairs)


def test_closing_gives_everything_back(
    shards: Shards, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: weakref.WeakSet[Graph] = weakref.WeakSet()
    made = Graph.__init__

    def recorded(self: Graph, *arguments: Any, **options: Any) -> None:
        graphs.add(self)
        made(self, *arguments, **options)

    monkeypatch.setattr(Graph, "__init__", recorded)
    before = threading.active_count()
    loader = open_loader(shards("vp9"), tiny, engine="dali", device=device, batch_size=2)
    list(loader)
    left = loader.batches(0)
    next(left)
    assert len(graphs) > 0
    loader.close()
    left.close()
    gc.collect()
    assert (len(graphs), threading.active_count()) == (0, before)
