"""DALI's colours on a GPU against the oracle for them, with pictures made as DALI makes them there.

These tests leave out NVDEC itself. DALI's conversion to RGB is imitated, and its graph runs on the
CPU.
"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nvidia.dali", reason="pip install 'timebalance[dali]'")

from loaders import open_loader
from loaders.plan import stage_views
from loaders.yuv import BT601_TO_BT709
from shards.format.manifest import Manifest, read_manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.loaders.engines.dali.conftest import Shards
from tests.loaders.engines.dali.gpu_colours import colours_of_a_gpu
from tests.loaders.engines.dali.test_engine import LIMITS, PRESETS
from tests.loaders.engines.parity import assert_parity
from tests.make_videos import make_video

# Stricter than on a GPU, because nothing here is unknown.
STRICT = LIMITS["cpu"]
SOME = [pytest.param(x, marks=() if x == "finetune" else pytest.mark.slow) for x in PRESETS]


@pytest.mark.parametrize("preset", SOME)
def test_made_up_videos(shards: Shards, preset: str, tmp_path: Path) -> None:
    with colours_of_a_gpu():
        assert_parity(
            shards("h264"), PRESETS[preset], tmp_path, engine="dali", is_centred=True, **STRICT
        )


@pytest.mark.parametrize("preset", SOME)
def test_real_clips(real_shards: Manifest, preset: str, tmp_path: Path) -> None:
    with colours_of_a_gpu():
        assert_parity(
            real_shards, PRESETS[preset], tmp_path, engine="dali", is_centred=True, **STRICT
        )


def test_saturated_edges_need_the_oracle_for_a_gpu(tmp_path: Path) -> None:
    """Stripes of red and blue: the other oracle is beyond the limits, even those for a GPU.

    `fused` and that oracle are as far away as docs/dali.md says.
    """
    colours = np.array([[220, 20, 20], [20, 20, 220]], np.uint8)
    stripes = colours[np.arange(160) // 5 % 2]
    make_video(
        tmp_path / "videos" / "a" / "stripes.mp4",
        num_frames=16,
        height=160,
        width=160,
        paint=lambda index: np.broadcast_to(np.roll(stripes, index, axis=0), (160, 160, 3)),
        options={"preset": "medium"},  # the figures below are of this one's pictures
    )
    ingest(from_folder(tmp_path / "videos", min_per_class=1), tmp_path / "shards")
    shards, spec = read_manifest(tmp_path / "shards"), stage_views.evaluation(num_clips=1)
    with colours_of_a_gpu():
        assert_parity(shards, spec, tmp_path, engine="dali", is_centred=True, **STRICT)
        with pytest.raises(AssertionError, match="mean"):
            assert_parity(shards, spec, tmp_path, engine="dali", **LIMITS["cuda"])
        dali, fused, reference = (
            next(open_loader(shards, spec, engine=engine, device="cpu", batch_size=1).batches(0))
            for engine in ("dali", "fused", "reference")
        )
    for other, levels in ((fused, 14.7), (reference, 14.6)):
        error = (dali.views["clips"] - other.views["clips"]).abs().mean()
        assert 255 * float(error) == pytest.approx(levels, abs=0.1)


def test_how_far_saturated_bt709_is_off() -> None:
    """As docs/dali.md says: DALI clips the wrong RGB to bytes before the matrix corrects it."""
    levels = np.linspace(0, 1, 33)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    wrong = rgb @ np.linalg.inv(BT601_TO_BT709).T
    error = 255 * np.abs((wrong.clip(0, 1) @ BT601_TO_BT709.T).clip(0, 1) - rgb)
    is_clipped = (np.abs(wrong - wrong.clip(0, 1)) > 1e-6).any(axis=1)
    assert error[~is_clipped].max() < 1e-3
    assert is_clipped.mean() == pytest.approx(0.17, abs=0.005)
    assert (error.mean(), error.max()) == (pytest.approx(0.8, abs=0.05), pytest.approx(37, abs=0.5))
    np.testing.assert_array_equal(rgb[error.max(axis=1).argmax()], [1, 0, 1])
