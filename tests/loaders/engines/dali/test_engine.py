"""The DALI engine against the oracle, and the loader's promises kept on it.

Whatever holds on the CPU must hold on a GPU, where NVDEC decodes instead: the device is a parameter
of every test of the engine.
"""

import gc
import hashlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from loaders import Batch, DaliLayout, Loader, LoaderError, Skip, TryLayouts, open_loader
from loaders.plan import presets
from loaders.plan.views import ViewSpec
from shards.encode.recipe import Recipe
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.reader import ShardReader
from shards.sources.folder import from_folder
from tests.loaders.engines.parity import assert_parity
from tests.loaders.engines.test_parity import EVERYTHING, SPECS
from tests.make_videos import make_video

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
CODECS = ("h264", "vp9", "mjpeg", "mpeg4")
NUM_VIDEOS = 7
PRESETS = {
    "pretrain": presets.pretrain(size_px=48),
    "finetune": presets.finetune(size_px=48),
    "student_pair": presets.weak_strong(size_px=48),
    "similarity": presets.similarity(size_px=48),
    "eval": presets.evaluation(size_px=48, num_clips=2),
    "eval 3 crops": presets.evaluation(size_px=48, num_clips=1, num_crops=3),
}
# The GPU's own conversion to RGB differs by more than FFmpeg's two ways of doing it.
LIMITS = {
    "cpu": {"max_mean_difference": 1 / 255, "min_psnr_db": 42.0},
    "cuda": {"max_mean_difference": 1.5 / 255, "min_psnr_db": 38.0},
}

Shards = Callable[[str], Manifest]
Content = dict[str, bytes]


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> str:
    """Both devices, the second where there is one."""
    return str(request.param)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    """Codec -> the same few videos in it: of three sizes, some short, one tagged BT.709."""

    @cache
    def made(codec: str) -> Manifest:
        root = tmp_path_factory.mktemp(codec)
        sizes = [(144, 176, 80), (144, 176, 40), (176, 144, 9), (160, 160, 70), (144, 176, 66)]
        source = ("mpeg4", "avi") if codec == "mpeg4" else ("libx264", "mp4")
        tags = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
        for seed in range(NUM_VIDEOS):
            height, width, num_frames = sizes[seed % len(sizes)]
            make_video(
                root / "videos" / "ab"[seed % 2] / f"v{seed}.{source[1]}",
                num_frames=num_frames,
                height=height,
                width=width,
                codec=source[0],
                seed=seed,
                options=tags if seed == 1 else None,
            )
        recipe = Recipe(codec="copy") if codec == "mpeg4" else Recipe(codec=codec)
        ingest(
            from_folder(root / "videos", min_per_class=1), root / "shards", recipe=recipe, workers=1
        )
        return read_manifest(root / "shards")

    return made


@pytest.fixture(scope="module")
def tiny() -> ViewSpec:
    """Small pretraining views with every operation in them."""
    return presets.pretrain(num_frames=4, size_px=16, num_slices=2, augment=EVERYTHING)


def _content(batches: Iterable[Batch]) -> Content:
    """Key -> the bytes of all its views."""
    content: Content = {}
    for batch in batches:
        for b in torch.nonzero(batch.valid).flatten().tolist():
            assert batch.keys[b] not in content
            parts = [batch.views[name][b].cpu().numpy() for name in sorted(batch.views)]
            content[batch.keys[b]] = b"".join(part.tobytes() for part in parts)
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
    spec = replace(tiny, size_px=48)
    assert_parity(shards(codec), spec, tmp_path, engine="dali", device=device, **LIMITS[device])


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
    for batch, plan in zip(loader.batches(3), loader.plans(3), strict=True):
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
    assert all(_same(*pair) for pair in zip(loader.stream(4), stream[4:], strict=False))


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
    assert all(torch.equal(one, other) for one, other in zip(kept, copies, strict=True))


def _damaged(manifest: Manifest, tmp_path: Path, part: bytes, *rows: int) -> Manifest:
    """A copy in which some videos have lost a part, though their digests say they are as stored.

    `part` is a box of the MP4 file: b"moov" (its index) or b"mdat" (its pictures).
    """
    shutil.copytree(manifest.root, tmp_path / "damaged")
    digests = manifest.table.column("sha256").to_pylist()
    with ShardReader(manifest) as reader:
        for row in rows:
            video, data = manifest.video(row), bytearray(reader.read(row))
            box = data.rindex(part) - 4
            size = int.from_bytes(data[box : box + 4], "big")
            data[box + 8 : box + size] = bytes(size - 8)
            with (tmp_path / "damaged" / video.shard).open("r+b") as file:
                file.seek(video.offset)
                file.write(data)
            digests[row] = hashlib.sha256(data).hexdigest()
    column = manifest.table.schema.get_field_index("sha256")
    table = manifest.table.set_column(column, "sha256", pa.array(digests))
    return replace(manifest, root=tmp_path / "damaged", table=table)


@pytest.mark.parametrize("part", [b"moov", b"mdat"], ids=bytes.decode)
@pytest.mark.parametrize("bad", [(3,), (0, 1, 4), (2, 3, 6)], ids=str)
@pytest.mark.parametrize("codec", ["vp9", "mjpeg", "h264"])
def test_bad_videos_are_masked_and_named_and_the_rest_is_as_before(
    shards: Shards,
    codec: str,
    bad: tuple[int, ...],
    part: bytes,
    tiny: ViewSpec,
    device: str,
    tmp_path: Path,
) -> None:
    if device == "cuda" and part == b"mdat":
        pytest.skip("NVDEC may conceal what is missing")
    options = {"engine": "dali", "device": device, "batch_size": 2, "shuffle": False}
    whole = list(open_loader(shards(codec), tiny, **options).batches(0))
    loader = open_loader(
        _damaged(shards(codec), tmp_path, part, *bad),
        tiny,
        **options,
        layout=DaliLayout(num_pipelines=2, depth=2),
        on_error=Skip(max_bad_share=1.0),
    )
    keys = {loader.manifest.keys[row] for row in bad}
    rows = []
    for ours, theirs in zip(loader.batches(0), whole, strict=True):
        rows += ours.plan.rows.tolist()
        assert ours.keys == theirs.keys
        for b, key in enumerate(ours.keys):
            assert bool(ours.valid[b]) == (key not in ("", *keys))
            for name, view in ours.views.items():
                expected = theirs.views[name][b] if ours.valid[b] else torch.zeros_like(view[b])
                assert torch.equal(view[b], expected)
    assert [row for row in rows if row >= 0] == list(range(NUM_VIDEOS))
    assert loader.bad.keys() == keys
    for key, reason in loader.bad.items():
        assert reason.startswith(f"{key} in ")
        assert len(reason.splitlines()) == 1


def test_a_bad_video_stops_the_run_by_name(
    shards: Shards, tiny: ViewSpec, device: str, tmp_path: Path
) -> None:
    manifest = _damaged(shards("vp9"), tmp_path, b"moov", 4)
    loader = open_loader(manifest, tiny, engine="dali", device=device, batch_size=2, shuffle=False)
    batches = loader.batches(0)
    assert [next(batches).valid.tolist() for _ in range(2)] == [[True, True]] * 2
    video = manifest.video(4)
    with pytest.raises(LoaderError, match=rf"^{video.key} in {video.shard}: \w+"):
        next(batches)


def test_a_changed_shard_is_named(
    shards: Shards, tiny: ViewSpec, device: str, tmp_path: Path
) -> None:
    whole = shards("vp9")
    changed = replace(_damaged(whole, tmp_path, b"moov", 4), table=whole.table)
    loader = open_loader(
        changed, tiny, engine="dali", device=device, on_error=Skip(max_bad_share=1.0)
    )
    assert sum(int(batch.valid.sum()) for batch in loader.batches(0)) == NUM_VIDEOS - 1
    assert "sha256 differs" in loader.bad[whole.keys[4]]


def test_what_is_no_videos_fault_is_not_blamed_on_one(
    shards: Shards, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from loaders.engines.dali.graph import Graph

    collect, calls = Graph.collect, iter(range(100))

    def fails_once(graph: Graph) -> list[torch.Tensor]:
        if next(calls) == 1:
            raise RuntimeError("the device caught fire")
        return collect(graph)

    monkeypatch.setattr(Graph, "collect", fails_once)
    loader = open_loader(
        shards("vp9"), tiny, engine="dali", device=device, batch_size=2, on_error="skip"
    )
    with pytest.raises(RuntimeError, match="caught fire"):
        list(loader.batches(0))
    assert not loader.bad


def _use(loader: Loader) -> None:
    for _ in loader.batches(0):
        pass
    generator = loader.stream()  # given up midway
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
    """This process's threads, those without Python included; 0 where there is no /proc."""
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
    shards: Shards, tiny: ViewSpec, device: str
) -> None:
    options = {"engine": "dali", "device": device, "batch_size": 2}
    plain = open_loader(shards("vp9"), tiny, **options)
    tuned = open_loader(shards("vp9"), tiny, **options, layout=TryLayouts())
    assert _content(tuned.batches(0)) == _content(plain.batches(0))


def test_the_profile_reads(shards: Shards, tiny: ViewSpec, device: str) -> None:
    loader = open_loader(shards("vp9"), tiny, engine="dali", device=device, batch_size=2)
    profile = loader.profile(num_batches=3)
    assert profile.stages.read_s > 0
    assert profile.stages.decode_s > 0
