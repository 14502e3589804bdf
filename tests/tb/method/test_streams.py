"""A run's settings reach its loaders."""

from loaders.plan.stage_views import finetune
from loaders.subset import Part
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.method.streams import Stream, open_stream
from tests.tb.conftest import QUICK


def test_lookahead_mb_bounds_the_batches_in_work(manifest: Manifest) -> None:
    """At 128 px a video has 0.75 MiB of views, so only the two batches that must be in work fit."""
    assert _num_batches_ahead(manifest) > 2
    assert _num_batches_ahead(manifest, "machine.lookahead_mb=1") == 2


def _num_batches_ahead(manifest: Manifest, *settings: str) -> int:
    config = load_config(
        "demo", [*QUICK, "machine.engine=fused", "machine.num_workers=8", *settings]
    )
    stream = Stream(part=Part.ALL, spec=finetune(num_frames=4, size_px=128))
    with open_stream(stream, manifest, config, config.finetune.optim) as loader:
        return loader.engine.num_batches_ahead
