"""Stage 4: video-level accuracy of a classifier on a held-out split.

Every clip of a video comes from one decode; the softmax is averaged over clips and crops. The
split is read here and nowhere else: no training choice depends on it.
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from loaders import views
from loaders.batch import engine_name, open_loader
from loaders.subset import Subset
from shards.errors import InputError
from shards.manifest import Manifest
from shards.publish import publish_bytes
from tb.checkpoint import CHECKPOINT, check_finished, file_digest, load_model
from tb.config import Config, Tree
from tb.models import Classifier, build_backbone, to_channels_last
from tb.progress import ProgressBar

TOP_K = 5
CLASSIFIERS = ("supervised", "finetune-invariant", "finetune-distinctive", "student")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy of one classifier on one split; shares lie in [0, 1].

    Attributes:
        stage: Folder name of the trained stage.
        split: The split it was measured on.
        num_videos: Videos in it.
        top1: Share of videos whose most probable class is right.
        top5: Share whose label is among the five most probable classes (or all, if fewer).
        class_top1: Top-1 for each class, NaN-free: None for a class without videos.
        confusion: confusion[label][prediction] counts videos.
        source: What the numbers depend on: checkpoint, data and settings.
    """

    stage: str
    split: str
    num_videos: int
    top1: float
    top5: float
    class_top1: list[float | None]
    confusion: list[list[int]]
    source: Tree


def evaluate(stage: str, manifest: Manifest, config: Config, work: Path) -> Evaluation:
    """Evaluates WORK/STAGE, or returns what an earlier call with the same inputs found.

    Writes WORK/STAGE/eval-SPLIT.json and predictions-SPLIT.parquet (key, label, probabilities).

    Raises:
        InputError: The stage has no classifier, is not trained, of another backbone or other
            classes, or the split is empty.
    """
    if stage not in CLASSIFIERS:
        raise InputError(f"no classifier {stage!r}: choose one of {', '.join(CLASSIFIERS)}")
    folder = work / stage
    split = config.evaluation.split
    path = folder / f"eval-{split}.json"
    source = evaluation_source(folder, manifest, config)
    before = read_evaluation(path)
    if before is not None and before.source == source:
        return before
    probabilities, rows = _predict(stage, manifest, config, work)
    labels = manifest.labels[rows]
    result = summarise(
        probabilities, labels, len(manifest.classes), stage=stage, split=split, source=source
    )
    table = pa.table(
        {
            "key": [manifest.keys[row] for row in rows.tolist()],
            "label": labels,
            "probabilities": list(probabilities.astype(np.float32)),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    publish_bytes(folder / f"predictions-{split}.parquet", buffer.getvalue())
    publish_bytes(path, (json.dumps(asdict(result), indent=1) + "\n").encode())
    return result


def read_evaluation(path: Path) -> Evaluation | None:
    """The content of an eval-SPLIT.json; None where there is none."""
    return Evaluation(**json.loads(path.read_text())) if path.is_file() else None


def summarise(
    probabilities: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    stage: str,
    split: str,
    source: Tree,
) -> Evaluation:
    """Counts hits.

    Args:
        probabilities: (N, K) float, rows sum to 1.
        labels: (N,) int64 in [0, K).
        num_classes: K.
        stage: For the record.
        split: For the record.
        source: For the record.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")
    hits = ranked[:, 0] == labels
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, ranked[:, 0]), 1)
    sizes = confusion.sum(axis=1)
    return Evaluation(
        stage=stage,
        split=split,
        num_videos=len(labels),
        top1=float(hits.mean()),
        top5=float((ranked[:, :TOP_K] == labels[:, None]).any(axis=1).mean()),
        class_top1=[
            float(confusion[c, c] / sizes[c]) if sizes[c] else None for c in range(num_classes)
        ],
        confusion=confusion.tolist(),
        source=source,
    )


def evaluation_source(folder: Path, manifest: Manifest, config: Config) -> Tree:
    """What an evaluation of the stage in `folder` depends on: checkpoint, data and settings."""
    return {
        "checkpoint": file_digest(folder / CHECKPOINT),
        "data": manifest.digest,
        "evaluation": config.evaluation.model_dump(mode="json"),
        "clips": config.classify.clips.model_dump(mode="json", exclude={"augment"}),
        "split_number": config.labels.split_number,
        "engine": engine_name(config.machine.engine),
    }


@torch.no_grad()
def _predict(
    stage: str, manifest: Manifest, config: Config, work: Path
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) mean softmax and (N,) manifest rows of the split."""
    config.machine.limit_threads()
    clips, settings = config.classify.clips, config.evaluation
    loader = open_loader(
        manifest,
        views.evaluation(
            num_frames=clips.num_frames,
            stride=clips.stride,
            size_px=clips.size_px,
            num_clips=settings.num_clips,
            num_crops=settings.num_crops,
        ),
        subset=Subset(split=settings.split, split_number=config.labels.split_number),
        batch_size=settings.batch_size,
        engine=config.machine.engine,
        device=config.machine.device,
        num_workers=config.machine.num_workers,
        shuffle=False,
    )
    checkpoint = work / stage / CHECKPOINT
    model = Classifier(build_backbone(config.backbone), len(manifest.classes))
    load_model(checkpoint, model, backbone=config.backbone, classes=list(manifest.classes))
    check_finished(checkpoint)
    to_channels_last(model).to(loader.device).eval()
    found, rows = [], []
    with ProgressBar(f"evaluate {stage}", len(loader)) as bar:
        for index, batch in enumerate(loader.batches()):
            flat = batch.views["clips"].flatten(0, 2)
            probabilities = model(flat).float().softmax(-1)
            per_video = probabilities.unflatten(0, (len(batch.keys), -1)).mean(1).cpu()
            valid = batch.valid.cpu()
            found.append(per_video[valid].numpy())
            rows.append(batch.plan.rows[valid.numpy()])
            bar.update(index + 1)
    return np.concatenate(found), np.concatenate(rows)
