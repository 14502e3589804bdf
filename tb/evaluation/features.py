"""Features of whole videos by a frozen backbone, computed once for each checkpoint and split.

A video's feature is the mean of the pooled features of its evaluation clips. Features are kept in
WORK/STAGE/features-SPLIT.parquet with a digest of everything that they depend on.
"""

import hashlib
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from loaders import Part, Skip, Subset
from shards.files.parquet import publish_table, read_table
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.clips import evaluation_loader, video_means
from tb.evaluation.evaluate import evaluation_source
from tb.networks.backbones import build_backbone
from tb.networks.heads import to_channels_last
from tb.training.engine_record import with_engine_of
from tb.weights.checkpoint import CHECKPOINT
from tb.weights.pretrained import load_pretrained


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of N videos.

    Attributes:
        rows: (N,) manifest rows.
        vectors: (N, C) float32 features.
        labels: (N,) int64 class indices.
    """

    rows: np.ndarray
    vectors: Tensor
    labels: Tensor

    def of(self, rows: np.ndarray) -> "Features":
        """The features of the given manifest rows only."""
        keep = torch.from_numpy(np.isin(self.rows, rows))
        return Features(
            rows=self.rows[keep.numpy()], vectors=self.vectors[keep], labels=self.labels[keep]
        )


def stage_features(
    stage: str, manifest: Manifest, config: Config, work: Path, split: str
) -> Features:
    """The features of a split ("pool" too); WORK/STAGE/features-SPLIT.parquet keeps them.

    Raises:
        InputError: The stage is not trained or of another backbone, or the split is empty.
    """
    folder = work / stage
    config = with_engine_of(folder, manifest, config)
    source = {**evaluation_source(folder, manifest, config), "split": split}
    key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
    path = folder / f"features-{split}.parquet"
    table = _read_table(path, key)
    if table is None:
        table = _compute(stage, manifest, config, work, split)
        publish_table(path, table.replace_schema_metadata({"source": key}))
    rows = table.column("row").to_numpy()
    vectors = np.stack(table.column("feature").to_numpy())
    return Features(
        rows=rows,
        vectors=torch.from_numpy(vectors),
        labels=torch.from_numpy(manifest.labels[rows]),
    )


def labelled_features(stage: str, manifest: Manifest, config: Config, work: Path) -> Features:
    """The features of the labelled training videos; no other video is read, and no file is kept.

    Under `machine.on_error` "skip", videos that cannot be read are left out.

    Raises:
        InputError: The stage is not trained or of another backbone.
    """
    means, rows = _means(
        stage,
        manifest,
        with_engine_of(work / stage, manifest, config),
        work,
        config.labels.subset(Part.LABELLED),
        f"labelled features {stage}",
        on_error=config.machine.fault_policy,
    )
    return Features(
        rows=rows,
        vectors=torch.from_numpy(means),
        labels=torch.from_numpy(manifest.labels[rows]),
    )


def _read_table(path: Path, key: str) -> pa.Table | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        table = read_table(file)
    return table if (table.schema.metadata or {}).get(b"source") == key.encode() else None


def _compute(stage: str, manifest: Manifest, config: Config, work: Path, split: str) -> pa.Table:
    subset = config.labels.of_split(split)
    title = f"features {stage} {split}"
    means, rows = _means(stage, manifest, config, work, subset, title, on_error="raise")
    return pa.table(
        {
            "row": rows,
            "key": [manifest.keys[row] for row in rows.tolist()],
            "feature": list(means),
        }
    )


def _means(
    stage: str,
    manifest: Manifest,
    config: Config,
    work: Path,
    subset: Subset,
    title: str,
    *,
    on_error: Literal["raise"] | Skip,
) -> tuple[np.ndarray, np.ndarray]:
    """(V, C) float32 features of some videos by the backbone of a stage, and (V,) their rows."""
    backbone = build_backbone(config.backbone)
    load_pretrained(work / stage / CHECKPOINT, backbone, config.normalization)
    config.machine.limit_threads()
    with closing(evaluation_loader(manifest, config, subset, on_error=on_error)) as loader:
        to_channels_last(backbone).to(loader.device).eval()
        return video_means(loader, lambda clips: backbone(clips).mean(dim=(2, 3, 4)), title)
