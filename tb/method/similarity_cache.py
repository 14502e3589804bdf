"""The similarity scores of all training videos: computed once after phase 1, and kept.

WORK/similarity.parquet holds them, with a digest of everything that they depend on: both teachers'
weights, the manifest, the split, the clips, their normalization and the engine. The formula is in
`tb.similarity`.
"""

import hashlib
import json
import logging
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from loaders import Loader, Part, open_loader
from loaders.plan import stage_views
from shards.files.parquet import publish_table, read_table
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.networks.backbones import build_backbone
from tb.networks.heads import Embedder, to_channels_last
from tb.progress import ProgressBar
from tb.similarity import temporal_similarity
from tb.stage_kinds import StageKind, Teacher
from tb.training.distributed import main_first
from tb.training.engine_record import pixels_from, with_engine_of
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_model

logger = logging.getLogger(__name__)

SIMILARITY = "similarity.parquet"
_BATCH_SIZE = 8


@main_first
def cached_similarity(manifest: Manifest, config: Config, work: Path) -> Tensor:
    """The similarity score of every training video.

    Args:
        manifest: The data set.
        config: Clips, backbone and split.
        work: The work folder. It holds both self-supervised teachers; the cache is written there.

    Returns:
        (len(manifest),) float32 on the CPU, in [0, 1]; NaN for videos outside the train split and,
        under `machine.on_error` "skip", for those that could not be read.

    Raises:
        InputError: A teacher's checkpoint is missing or of another backbone.
    """
    config = with_engine_of(work / StageKind.STUDENT, manifest, config)
    key = similarity_key(manifest, config, work)
    path = work / SIMILARITY
    scores = read_similarity(path, manifest, key)
    is_usable = scores is not None and (
        config.machine.may_skip
        or not scores[config.labels.subset(Part.ALL).rows(manifest)].isnan().any()
    )
    if scores is None or not is_usable:
        scores = _compute(manifest, config, work)
        _write(path, manifest, scores, key)
    return scores


def read_similarity(path: Path, manifest: Manifest, key: str | None = None) -> Tensor | None:
    """The scores in the cache, in the shape of `cached_similarity`.

    Args:
        path: WORK/similarity.parquet.
        manifest: The data set.
        key: The `similarity_key` that the scores must have. None: any.

    Returns:
        The scores, or None if there are none for this data set and key.
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
    """Hex digest of everything that the scores depend on.

    Raises:
        InputError: A teacher's checkpoint is missing.
    """
    config = with_engine_of(work / StageKind.STUDENT, manifest, config)
    clips = config.pretrain.clips
    parts = [
        manifest.digest,
        [file_digest(work / teacher.pretrained / CHECKPOINT) for teacher in Teacher],
        list(clips.frame_settings().values()),
        [config.labels.split, config.labels.split_number],
        pixels_from(config.machine.engine, config.machine.dali_views),
        *config.input_settings().values(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@torch.no_grad()
def _compute(manifest: Manifest, config: Config, work: Path) -> Tensor:
    config.machine.limit_threads()
    scores = torch.full((len(manifest),), float("nan"))
    with (
        closing(_loader(manifest, config)) as loader,
        ProgressBar("similarity", len(loader)) as bar,
    ):
        teachers = []
        for teacher in Teacher:
            model = Embedder(build_backbone(config.backbone))
            path = work / teacher.pretrained / CHECKPOINT
            load_model(path, model, classes=[], normalization=config.normalization)
            teachers.append(to_channels_last(model).to(loader.device).eval())
        for index, batch in enumerate(loader.batches(0)):
            flat = batch.views["clips"].flatten(0, 1)
            invariant, distinctive = (
                net(flat).unflatten(0, (len(batch.keys), -1)) for net in teachers
            )
            values = temporal_similarity(invariant, distinctive).cpu()
            valid = batch.valid.cpu()
            scores[torch.from_numpy(batch.plan.rows)[valid]] = values[valid]
            bar.update(index + 1)
        for reason in loader.bad.values():
            logger.warning("no similarity score: %s", reason)
    return scores


def _loader(manifest: Manifest, config: Config) -> Loader:
    clips, machine = config.pretrain.clips, config.machine
    return open_loader(
        manifest,
        stage_views.similarity(
            num_frames=clips.num_frames,
            stride=clips.stride,
            stride_s=clips.stride_s,
            size_px=clips.size_px,
        ),
        normalization=config.normalization,
        subset=config.labels.subset(Part.ALL),
        batch_size=_BATCH_SIZE,
        cache=machine.cache,
        engine=machine.engine,
        layout=machine.dali_views,
        device=machine.device,
        num_workers=machine.num_workers,
        in_process=machine.in_process,
        lookahead_mb=machine.lookahead_mb,
        shuffle=False,
        on_error=machine.fault_policy,
    )


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
