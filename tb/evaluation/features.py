"""Features of whole videos by a frozen backbone, computed once per checkpoint and split.

A video's feature is the mean of its evaluation clips' pooled features. They are kept in
WORK/STAGE/features-SPLIT.parquet, keyed by what they depend on.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from shards.files.parquet import publish_table, read_table
from shards.format.manifest import Manifest
from tb.config.settings import Config
from tb.evaluation.evaluate import evaluation_loader, evaluation_source, video_means
from tb.networks.models import build_backbone, to_channels_last
from tb.weights.checkpoint import CHECKPOINT
from tb.weights.pretrained import load_pretrained


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of N videos: their (N,) manifest rows, (N, C) float32 features and (N,) class indices."""

    rows: np.ndarray
    vectors: Tensor
    labels: Tensor

    def of(self, rows: np.ndarray) -> "Features":
        """Those of some of the manifest's rows."""
        keep = torch.from_numpy(np.isin(self.rows, rows))
        return Features(
            rows=self.rows[keep.numpy()], vectors=self.vectors[keep], labels=self.labels[keep]
        )


def stage_features(
    stage: str, manifest: Manifest, config: Config, work: Path, split: str
) -> Features:
    """The features of a split ("pool" too), kept in WORK/STAGE/features-SPLIT.parquet.

    Raises:
        InputError: The stage is not trained or of another backbone, or the split is empty.
    """
    folder = work / stage
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


def _read_table(path: Path, key: str) -> pa.Table | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        table = read_table(file)
    return table if (table.schema.metadata or {}).get(b"source") == key.encode() else None


def _compute(stage: str, manifest: Manifest, config: Config, work: Path, split: str) -> pa.Table:
    loader = evaluation_loader(manifest, config, config.labels.of_split(split))
    backbone = build_backbone(config.backbone)
    load_pretrained(work / stage / CHECKPOINT, backbone, config.backbone)
    to_channels_last(backbone).to(loader.device).eval()
    config.machine.limit_threads()
    means, rows = video_means(
        loader, lambda clips: backbone(clips).mean(dim=(2, 3, 4)), f"features {stage} {split}"
    )
    return pa.table(
        {
            "row": rows,
            "key": [manifest.keys[row] for row in rows.tolist()],
            "feature": list(means),
        }
    )
