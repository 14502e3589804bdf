"""Compares two engines view by view, and saves a picture of every difference."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from loaders import Batch, open_loader
from loaders.engines.dali.layout import Layout
from loaders.engines.reference import centred_engine
from loaders.plan.views import ViewSpec
from loaders.producer import LocalProducer
from shards.format.manifest import Manifest

MAX_MEAN_DIFFERENCE = 1 / 255
MIN_PSNR_DB = 42.0


def assert_parity(
    shards: Manifest,
    views: str | ViewSpec,
    folder: Path,
    *,
    engine: str = "fused",
    device: str = "cpu",
    layout: Layout | None = None,
    is_centred: bool = False,
    max_mean_difference: float = MAX_MEAN_DIFFERENCE,
    min_psnr_db: float = MIN_PSNR_DB,
    seed: int = 0,
    batch_size: int = 3,
) -> None:
    """Checks that the engine and the oracle agree on every view of every video of one epoch.

    The oracle for DALI on a GPU, or with `is_centred`, places chroma as DALI does on a GPU.
    Pictures of the views that differ go to `folder`.

    Raises:
        AssertionError: Views differ by more than allowed, in [0, 1], and it names them; or not
            every view was compared.
    """
    options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "shuffle": False}
    tested_loader = open_loader(
        shards, views, engine=engine, device=device, layout=layout, **options
    )
    reference_loader = open_loader(shards, views, engine="reference", device="cpu", **options)
    if is_centred or (engine == "dali" and device == "cuda"):
        spec = reference_loader.spec
        producer = reference_loader.producer
        assert isinstance(producer, LocalProducer)
        producer.engine = centred_engine(spec, batch_size=batch_size, num_workers=2)
    num_compared, worst_pixel, failures = 0, 0.0, []
    for tested, reference in zip(
        tested_loader.batches(0), reference_loader.batches(0), strict=True
    ):
        for name in tested.views:
            ours, oracle = (_as_rgb(batch, name) for batch in (tested, reference))
            for index in np.ndindex(*ours.shape[:-4]):
                num_compared += 1
                difference = (ours[index] - oracle[index]).double()
                worst_pixel = max(worst_pixel, float(difference.abs().max()))
                psnr = float(-10 * torch.log10(difference.square().mean().clamp_min(1e-12)))
                mean = float(difference.abs().mean())
                if mean > max_mean_difference or psnr < min_psnr_db:
                    path = folder / f"{tested.keys[index[0]]}-{name}-{index[1:]}.png"
                    save_difference(ours[index], oracle[index], path)
                    failures.append(f"{path}: mean {mean * 255:.2f}/255, PSNR {psnr:.1f} dB")
    assert num_compared == len(tested_loader.planner.rows) * tested_loader.spec.num_views > 0
    assert not failures, "\n".join([*failures, f"worst pixel {worst_pixel * 255:.0f}/255"])


def save_difference(ours: torch.Tensor, oracle: torch.Tensor, path: Path) -> None:
    """Saves the first frame of two clips (3, T, H, W) and 8 x their difference around mid-grey."""
    difference = (ours - oracle) * 8 + 0.5
    row = torch.cat([clip[:, 0] for clip in (ours, oracle, difference)], dim=-1)
    pixels = (row.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _as_rgb(batch: Batch, name: str) -> torch.Tensor:
    """The valid videos' views of one group, (B, ..., 3, T, H, W) float32 RGB in [0, 1]."""
    views = batch.views[name][batch.valid].float().cpu()
    if batch.plan.normalization is None:
        return views
    mean, std = (
        torch.tensor(values).view(3, 1, 1, 1)
        for values in (batch.plan.normalization.mean, batch.plan.normalization.std)
    )
    return views * std + mean
