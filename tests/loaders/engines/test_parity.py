"""The fast engine against the oracle, on every preset."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from loaders.plan import stage_views
from loaders.plan.views import Augment, ViewSpec
from shards.format.manifest import Manifest
from tests.loaders.engines.parity import assert_parity, save_difference

# Every operation, always applied, with its widest range.
EVERYTHING = Augment(
    crop_scale=(0.4, 1.0),
    contrast=(0.75, 1.25),
    contrast_p=1.0,
    brightness=(0.75, 1.25),
    saturation=(0.75, 1.25),
    hue=0.1,
    color_p=1.0,
    grey_p=0.5,
    gamma=(0.75, 1.25),
    gamma_p=1.0,
    drop_channel_p=0.3,
    flip_p=0.5,
    num_erase=2,
    erase_p=1.0,
)
SPECS = {
    "pretrain": stage_views.pretrain(),
    "pretrain 224": stage_views.pretrain(num_frames=4, stride=4, size_px=224),
    "finetune": stage_views.finetune(),
    "student pair": stage_views.weak_strong(),
    "similarity": stage_views.similarity(),
    "eval": stage_views.evaluation(num_clips=3),
    "eval 3 crops": stage_views.evaluation(num_clips=2, num_crops=3, size_px=112),
    "everything": stage_views.pretrain(augment=EVERYTHING),
    "enlarged": stage_views.finetune(augment=EVERYTHING, size_px=300),
    "shrunk": stage_views.finetune(augment=EVERYTHING, size_px=23),
    "normalised": stage_views.view_spec(
        stage_views.finetune(augment=EVERYTHING, size_px=48), normalization="kinetics"
    ),
}


@pytest.mark.parametrize("name", SPECS)
def test_generated_videos(name: str, textured_shards: Manifest, tmp_path: Path) -> None:
    assert_parity(textured_shards, SPECS[name], tmp_path)


@pytest.mark.parametrize(
    "spec",
    [stage_views.pretrain(num_frames=4, stride=4), stage_views.finetune()],
    ids=lambda spec: spec.name,
)
def test_real_clips(spec: ViewSpec, real_shards: Manifest, tmp_path: Path) -> None:
    assert_parity(real_shards, spec, tmp_path, batch_size=5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SPECS)
def test_real_clips_as_they_are(
    name: str, seed: int, real_shards_copied: Manifest, tmp_path: Path
) -> None:
    assert_parity(real_shards_copied, SPECS[name], tmp_path, seed=seed, batch_size=5)


def test_a_failure_leaves_a_picture(tmp_path: Path) -> None:
    ours, oracle = torch.full((2, 3, 4, 10, 12), 0.5)
    oracle[0] = 0.4
    save_difference(ours, oracle, tmp_path / "a.png")
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.shape == (10, 36, 3)
    np.testing.assert_array_equal(pixels[0, -1], [255, 127, 127])
