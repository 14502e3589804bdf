"""How alike the moments of one video are: the weight between the two teachers.

Computed once after stage 1 for every training video and kept in WORK/similarity.parquet, keyed by
what it depends on: both teachers' weights, the manifest, the clips' size and the engine.
"""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from loaders.loader import engine_name, open_loader
from loaders.plan import views
from shards.files.parquet import publish_table, read_table
from shards.format.manifest import Manifest
from tb.config.settings import Config
from tb.networks.models import Embedder, build_backbone, to_channels_last
from tb.progress import ProgressBar
from tb.training.distributed import main_first
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_model

TEACHERS = ("invariant", "distinctive")
SIMILARITY = "similarity.parquet"
_BATCH_SIZE = 8


def temporal_similarity(clips_invariant: Tensor, clips_distinctive: Tensor) -> Tensor:
    """s per video: the mean off-diagonal cosine of consecutive clips, averaged over both teachers.

    C_I and C_D are the C x C cosine matrices of a video's clips under each self-supervised
    teacher, and s is the mean of the off-diagonal entries of (C_I + C_D) / 2, clipped to [0, 1].
    The paper states the matrices; the mean and the clip are this project's reading.

    Args:
        clips_invariant: (B, C, D) L2-normalised embeddings by the invariant teacher (C = 4).
        clips_distinctive: (B, C, D) likewise by the distinctive teacher.

    Returns:
        (B,) in [0, 1].
    """
    matrix = (_cosines(clips_invariant) + _cosines(clips_distinctive)) / 2
    num_clips = matrix.shape[-1]
    off_diagonal = matrix.sum(dim=(1, 2)) - matrix.diagonal(dim1=1, dim2=2).sum(-1)
    return (off_diagonal / (num_clips * (num_clips - 1))).clamp(0, 1)


def _cosines(clips: Tensor) -> Tensor:
    return torch.einsum("bcd,bed->bce", clips, clips)


@main_first
def cached_similarity(manifest: Manifest, config: Config, work: Path) -> Tensor:
    """The similarity score of every training video.

    Args:
        manifest: The data set.
        config: Which clips, backbone and split.
        work: Holds both self-supervised teachers; receives the cache.

    Returns:
        (len(manifest),) float32 on the CPU, in [0, 1]; NaN for videos outside the train split.

    Raises:
        InputError: A teacher's checkpoint is missing or of another backbone.
    """
    key = similarity_key(manifest, config, work)
    path = work / SIMILARITY
    scores = read_similarity(path, manifest, key)
    if scores is None:
        scores = _compute(manifest, config, work)
        _write(path, manifest, scores, key)
    return scores


def read_similarity(path: Path, manifest: Manifest, key: str | None = None) -> Tensor | None:
    """What the cache holds for this manifest (shape as above); None if it is absent or another's.

    Args:
        path: WORK/similarity.parquet.
        manifest: The data set.
        key: Digest of what the scores must come from; None accepts any.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        table = read_table(file)
    metadata = table.schema.metadata or {}
    if metadata.get(b"manifest", b"").decode() != manifest.digest:
        return None
    if key is not None and metadata.get(b"key", b"").decode() != key:
        return None
    scores = torch.full((len(manifest),), float("nan"))
    rows = torch.from_numpy(table.column("row").to_numpy().copy())
    scores[rows] = torch.from_numpy(table.column("similarity").to_numpy().copy())
    return scores


def similarity_key(manifest: Manifest, config: Config, work: Path) -> str:
    """Hex digest of all that the scores depend on.

    Raises:
        InputError: A teacher's checkpoint is missing.
    """
    clips = config.pretrain.clips
    parts = [
        manifest.digest,
        [file_digest(work / name / CHECKPOINT) for name in TEACHERS],
        [clips.num_frames, clips.stride, clips.size_px],
        [config.labels.split, config.labels.split_number],
        engine_name(config.machine.engine, config.machine.device),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@torch.no_grad()
def _compute(manifest: Manifest, config: Config, work: Path) -> Tensor:
    config.machine.limit_threads()
    clips = config.pretrain.clips
    loader = open_loader(
        manifest,
        views.similarity(num_frames=clips.num_frames, stride=clips.stride, size_px=clips.size_px),
        subset=config.labels.subset("all"),
        batch_size=_BATCH_SIZE,
        engine=config.machine.engine,
        device=config.machine.device,
        num_workers=config.machine.num_workers,
        shuffle=False,
    )
    teachers = []
    for name in TEACHERS:
        model = Embedder(build_backbone(config.backbone))
        load_model(work / name / CHECKPOINT, model, backbone=config.backbone, classes=[])
        teachers.append(to_channels_last(model).to(loader.device).eval())
    scores = torch.full((len(manifest),), float("nan"))
    with ProgressBar("similarity", len(loader)) as bar:
        for index, batch in enumerate(loader.batches()):
            flat = batch.views["clips"].flatten(0, 1)
            invariant, distinctive = (
                net(flat).unflatten(0, (len(batch.keys), -1)) for net in teachers
            )
            values = temporal_similarity(invariant, distinctive).cpu()
            valid = batch.valid.cpu()
            scores[torch.from_numpy(batch.plan.rows)[valid]] = values[valid]
            bar.update(index + 1)
    return scores


def _write(path: Path, manifest: Manifest, scores: Tensor, key: str) -> None:
    rows = torch.nonzero(~scores.isnan()).flatten()
    table = pa.table(
        {
            "row": rows.numpy(),
            "key": [manifest.keys[row] for row in rows.tolist()],
            "similarity": scores[rows].numpy(),
        }
    ).replace_schema_metadata({"manifest": manifest.digest, "key": key})
    publish_table(path, table)
