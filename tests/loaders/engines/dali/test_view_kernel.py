"""The kernel makes the oracle's views. On a CPU Triton's interpreter runs it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import DaliLayout, TryLayouts, open_loader
from loaders.engines.choice import DTYPES
from loaders.engines.dali import engine as dali_engine
from loaders.engines.dali.samples import Sample, SampleBatch
from loaders.engines.engine import WorkTimes
from loaders.engines.reference import _augment
from loaders.plan import stage_views
from loaders.plan.draw import Plan, draw_plan
from loaders.plan.normalization import NORMALIZATIONS
from loaders.plan.views import ViewSpec
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.loaders.engines.dali.test_engine import LIMITS
from tests.loaders.engines.parity import assert_parity
from tests.loaders.engines.test_parity import EVERYTHING, SPECS
from tests.make_videos import make_video

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")
view_kernel = pytest.importorskip("loaders.engines.dali.view_kernel", reason="needs Triton")

KERNEL = DaliLayout(num_pipelines=1, depth=2, views="kernel")
# Every preset of views by its size. Few frames, because the interpreter is slow.
SIZED = {
    "pretrain": partial(stage_views.pretrain, num_frames=1),
    "finetune": partial(stage_views.finetune, num_frames=2),
    "student_pair": partial(stage_views.weak_strong, num_frames=2),
    "similarity": partial(stage_views.similarity, num_frames=1),
    "eval": partial(stage_views.evaluation, num_frames=2, num_clips=2),
    "eval 3 crops": partial(stage_views.evaluation, num_frames=2, num_clips=1, num_crops=3),
}
PRESETS = {name: sized(size_px=48) for name, sized in SIZED.items()}
# The grid of odd sizes: views on both sides of a tile of a GPU and of the interpreter, and pictures
# that are wide, high and smaller than the view. Some presets have fewer views here.
GRID = {
    **SIZED,
    "pretrain": partial(SIZED["pretrain"], num_slices=1),
    "similarity": partial(SIZED["similarity"], num_clips=2),
    "everything": partial(SIZED["pretrain"], num_slices=1, augment=EVERYTHING),
}
ODD_SIZES_PX = (9, 33, 71)
ODD_PICTURES_PX = [(21, 31), (33, 17), (5, 7)]
# In levels of 8 bits: what the type rounds, and the arithmetic of float32.
ROUNDING = {torch.float32: 0.02, torch.float16: 0.09, torch.uint8: 0.52}


@pytest.fixture(scope="module")
def small_shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A wide and a high video, with few pixels, because the interpreter is slow."""
    root = tmp_path_factory.mktemp("small")
    for seed, (height, width) in enumerate([(80, 112), (112, 80)]):
        path = root / "videos" / "a" / f"{height}x{width}.mp4"
        make_video(path, num_frames=20, height=height, width=width, seed=seed)
    dataset = from_folder(root / "videos", min_per_class=1)
    ingest(dataset, root / "shards", recipe=Recipe(codec="vp9"), workers=1)
    return read_manifest(root / "shards")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_agrees_with_the_oracle(
    small_shards: Manifest, preset: str, device: str, tmp_path: Path
) -> None:
    options = {"engine": "dali", "device": device, "layout": KERNEL, **LIMITS[device]}
    assert_parity(small_shards, PRESETS[preset], tmp_path, **options)


def test_normalised_views_agree_with_the_oracle(
    small_shards: Manifest, device: str, tmp_path: Path
) -> None:
    spec = replace(PRESETS["finetune"], normalization=NORMALIZATIONS["imagenet"])
    options = {"engine": "dali", "device": device, "layout": KERNEL, **LIMITS[device]}
    assert_parity(small_shards, spec, tmp_path, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_real_clips_agree_with_the_oracle(name: str, real_shards: Manifest, tmp_path: Path) -> None:
    """Sizes as in training, but few frames and views, because the interpreter takes minutes."""
    groups = tuple(
        replace(group, shape=(1,), offsets=(group.offsets[0][:1],)) for group in SPECS[name].groups
    )
    spec = replace(SPECS[name], groups=groups, start="centre", num_crops=1)
    assert_parity(real_shards, spec, tmp_path, engine="dali", layout=KERNEL)


def _plan(spec: ViewSpec, sizes: list[tuple[int, int]], seed: int = 0) -> Plan:
    heights, widths = np.array(sizes).T
    rows = np.arange(len(sizes))
    return draw_plan(
        spec,
        rows=rows,
        epochs=0 * rows,
        num_frames=np.full(len(sizes), 9),
        heights=heights,
        widths=widths,
        seed=seed,
    )


def _batch(plan: Plan) -> SampleBatch:
    """Random pictures for a plan."""
    rng = np.random.default_rng(0)
    batch = SampleBatch(plan=plan, loading={})
    for b, (height, width) in enumerate(plan.sizes.tolist()):
        frames = np.unique(plan.frames[b]).astype(np.int32)
        batch.samples[b] = Sample(
            data=rng.integers(0, 256, (len(frames), height, width, 3), np.uint8),
            frames=frames,
            first=0,
            is_wrong_bt709=False,
            times=WorkTimes(),
        )
    return batch


def _written(
    batch: SampleBatch, spec: ViewSpec, dtype: torch.dtype, device: str, rows: list[int]
) -> list[torch.Tensor]:
    """The groups' views; what the kernel does not write stays 7."""
    clip = (spec.num_frames, spec.size_px, spec.size_px, 3)
    shapes = [(len(batch.plan.rows), len(group.offsets), *clip) for group in spec.groups]
    views = [torch.full(shape, 7, dtype=dtype, device=device) for shape in shapes]
    pictures = [torch.from_numpy(batch.samples[b].data).to(device) for b in rows]
    view_kernel.write_views(pictures, batch.inputs(rows), rows, views, spec.normalization)
    return [group.cpu() for group in views]


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize(
    "size_px",
    [
        pytest.param(size_px, marks=[pytest.mark.slow] if size_px > 9 else [])
        for size_px in ODD_SIZES_PX
    ],
)
@pytest.mark.parametrize("preset", GRID)
def test_odd_sizes_differ_by_rounding_only(
    preset: str, size_px: int, dtype: torch.dtype, device: str
) -> None:
    """Noise, where every wrong tap of the filter shows: every preset, size and type."""
    spec = GRID[preset](size_px=size_px)
    plan = _plan(spec, ODD_PICTURES_PX)
    batch = _batch(plan)
    views = _written(batch, spec, dtype, device, [0, 1, 2])
    joined = torch.cat(views, dim=1).float() / (255 if dtype == torch.uint8 else 1)
    for b, v in np.ndindex(*joined.shape[:2]):
        sample = batch.samples[b]
        place = np.searchsorted(sample.frames, plan.frames[b, v])
        clip = torch.from_numpy(sample.data[place]).movedim(-1, 1).float() / 255
        expected = _augment(clip, plan, b, v).permute(0, 2, 3, 1)
        assert (joined[b, v] - expected).abs().max() * 255 <= ROUNDING[dtype]


def test_the_grid_has_every_preset_and_every_type() -> None:
    views = {sized(size_px=9).name for sized in GRID.values()}
    assert views == {spec().name for spec in stage_views.NAMED_VIEWS.values()}
    assert {getattr(torch, dtype) for dtype in DTYPES} == set(ROUNDING)


def test_rows_without_a_sample_are_left_alone(device: str) -> None:
    spec = stage_views.finetune(num_frames=1, size_px=16, augment=EVERYTHING)
    batch = _batch(_plan(spec, [(24, 32)] * 4))
    (whole,) = _written(batch, spec, torch.float32, device, [0, 1, 2, 3])
    (part,) = _written(batch, spec, torch.float32, device, [3, 1])
    assert torch.equal(part[[1, 3]], whole[[1, 3]])
    assert (part[[0, 2]] == 7).all()
    assert whole.max() <= 1


def test_the_end_of_an_epoch_is_padded_with_zeros(small_shards: Manifest, device: str) -> None:
    spec = stage_views.finetune(num_frames=1, size_px=48)
    loader = open_loader(
        small_shards, spec, engine="dali", device=device, batch_size=3, layout=KERNEL
    )
    (last,) = loader.batches(0)
    assert last.valid.tolist() == [True, True, False]
    clip = last.views["clip"]
    assert (clip[2] == 0).all()
    assert (clip[:2].amax(dim=(1, 2, 3, 4)) > 0).all()


def test_what_fails_in_the_kernel_is_not_blamed_on_a_video(
    small_shards: Manifest, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the kernel does not compile")

    monkeypatch.setattr(view_kernel, "write_views", fails)
    loader = open_loader(
        small_shards, tiny, engine="dali", device=device, layout=KERNEL, on_error="skip"
    )
    with pytest.raises(RuntimeError, match="does not compile"):
        next(loader.batches(0))
    assert not loader.bad


def test_the_kernel_without_triton_names_the_extra(
    small_shards: Manifest, tiny: ViewSpec, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dali_engine, "triton_is_installed", lambda: False)
    for layout in (KERNEL, "kernel", TryLayouts(views="kernel")):
        with pytest.raises(InputError, match=r"timebalance\[dali\].*or choose operators"):
            open_loader(small_shards, tiny, engine="dali", device=device, layout=layout)
