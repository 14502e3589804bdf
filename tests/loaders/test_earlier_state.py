"""After videos are added to a set, a loader of the earlier state serves the same batches."""

import shutil
from pathlib import Path

import pytest
import torch

from loaders import ViewSpec, open_loader
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tests.make_videos import make_video


def test_a_run_on_the_state_before_goes_on(
    numbered_shards: Manifest, tiny_views: ViewSpec, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(numbered_shards.root, tmp_path / "set"))
    with open_loader(out, tiny_views, batch_size=3, seed=4) as loader:
        expected = list(loader.batches(0))
        next(iter(loader))
        state = loader.state_dict()
    make_video(tmp_path / "more" / "right" / "new.mp4", num_frames=20)
    added = ingest(from_folder(tmp_path / "more", min_per_class=1), out, append=True)
    assert added.num_added == 1
    with (
        open_loader(out, tiny_views, batch_size=3, seed=4) as loader,
        pytest.raises(InputError, match=f"; open {out}@{numbered_shards.digest[:16]}, or begin"),
    ):
        loader.load_state_dict(state)
    with open_loader(f"{out}@{added.earlier[:8]}", tiny_views, batch_size=3, seed=4) as loader:
        loader.load_state_dict(state)
        rest = list(loader)
    assert len(rest) == len(expected) - 1 > 0
    for ours, theirs in zip(rest, expected[1:], strict=True):
        assert ours.keys == theirs.keys
        for name, views in theirs.views.items():
            assert torch.equal(ours.views[name], views)
