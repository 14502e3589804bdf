"""A run's settings reach its loaders."""

import pytest

from loaders import Loader
from loaders.engines.memory import MB, view_bytes
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


def test_max_kept_batches_bounds_what_a_training_stream_shares(manifest: Manifest) -> None:
    beside = "machine.in_process=false"
    with _opened(manifest, beside) as usual:
        usual_mb = usual.memory_mb()["cpu"]
    with _opened(manifest, beside, "machine.max_kept_batches=5") as more:
        batch_mb = view_bytes(more.spec, "float32") * more.planner.batch_size / MB
        assert more.memory_mb()["cpu"] == pytest.approx(usual_mb + (5 - 2) * batch_mb)


def _num_batches_ahead(manifest: Manifest, *settings: str) -> int:
    with _opened(manifest, *settings) as loader:
        return loader.engine.num_batches_ahead


def _opened(manifest: Manifest, *settings: str) -> Loader:
    config = load_config(
        "demo", [*QUICK, "machine.engine=fused", "machine.num_workers=8", *settings]
    )
    stream = Stream(part=Part.ALL, spec=finetune(num_frames=4, size_px=128))
    return open_stream(stream, manifest, config, config.finetune.optim)
