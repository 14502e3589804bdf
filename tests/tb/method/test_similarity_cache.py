"""The cached similarity scores."""

import shutil
from pathlib import Path

import torch

from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.similarity_cache import SIMILARITY, cached_similarity, read_similarity


def test_covers_the_training_videos_and_no_others(finished: Path, manifest: Manifest) -> None:
    scores = read_similarity(finished / SIMILARITY, manifest)
    assert scores is not None
    train = torch.zeros(len(manifest), dtype=torch.bool)
    train[torch.from_numpy(manifest.indices("train"))] = True
    assert torch.equal(~scores.isnan(), train)
    assert ((scores[train] >= 0) & (scores[train] <= 1)).all()


def test_cache_is_used_while_its_sources_stay_and_not_after(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    path = work / SIMILARITY
    before = path.stat().st_mtime_ns
    scores = cached_similarity(manifest, config, work)
    assert path.stat().st_mtime_ns == before
    # With the other teacher's weights for the invariant one, the source and the scores change.
    shutil.copy(work / "distinctive" / "checkpoint.pt", work / "invariant" / "checkpoint.pt")
    fresh = cached_similarity(manifest, config, work)
    assert path.stat().st_mtime_ns != before
    assert not torch.equal(scores.nan_to_num(), fresh.nan_to_num())
    assert torch.equal(scores.isnan(), fresh.isnan())
