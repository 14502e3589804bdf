"""Stage 4: video-level accuracy of a classifier on a held-out split.

Every clip of a video comes from one decode; the softmax is averaged over clips and crops. The
split is read here and nowhere else, once: no choice is to depend on it. Who must read it again says
so, and the record does too.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from loaders.loader import Loader, engine_name, open_loader
from loaders.plan import views
from loaders.subset import Subset
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.parquet import publish_table
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.settings import Config, Tree
from tb.evaluation.readings import check_unread, log_reading
from tb.networks.models import Classifier, build_backbone, to_channels_last
from tb.progress import ProgressBar
from tb.reports import plots
from tb.training.distributed import World, main_first
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_model

TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy of one classifier on one split; shares lie in [0, 1].

    Attributes:
        stage: Folder name of the trained stage.
        split: The split it was measured on.
        num_videos: Videos in it.
        top1: Share of videos whose most probable class is right.
        top5: Share whose label is among the five most probable classes (or all, if fewer); a class
            of probability 0 is never among them.
        class_top1: Top-1 for each class, NaN-free: None for a class without videos.
        confusion: confusion[label][prediction] counts videos.
        source: What the numbers depend on: checkpoint, data and settings.
        num_peeks: Readings of the split up to this one that were declared as peeks.
    """

    stage: str
    split: str
    num_videos: int
    top1: float
    top5: float
    class_top1: list[float | None]
    confusion: list[list[int]]
    source: Tree
    num_peeks: int = 0


@main_first
def evaluate(
    stage: str, manifest: Manifest, config: Config, work: Path, *, peek: bool = False
) -> Evaluation:
    """Evaluates WORK/STAGE, or returns what an earlier call with the same inputs found.

    Writes into WORK/STAGE: predictions-SPLIT.parquet (key, label, probabilities), classes-SPLIT.csv
    (see `class_table`), confusion-SPLIT.png and, last, eval-SPLIT.json; evaluations.jsonl gets a
    line.

    Args:
        stage: Its folder in `work`.
        manifest: The data set.
        config: Its settings.
        work: The work folder.
        peek: Reads the split although that is not the one reading that counts: before training is
            over, or again, with other weights or settings. Counted in the record.

    Raises:
        InputError: The stage has no classifier, is not trained, of another backbone or other
            classes, or the split is empty; or it was read already, and this is no `peek`.
    """
    folder = work / stage
    if not (folder / CHECKPOINT).is_file():
        raise InputError(f"{folder / CHECKPOINT}: no such checkpoint; train that stage first")
    # Another process that evaluates it is waited for, and its result taken.
    with locked(folder / ".evaluation.lock", f"{folder}: locked", patience_s=float("inf")):
        return _evaluate(stage, manifest, config, work, peek)


def _evaluate(stage: str, manifest: Manifest, config: Config, work: Path, peek: bool) -> Evaluation:
    folder = work / stage
    split = config.evaluation.split
    path = folder / f"eval-{split}.json"
    source = evaluation_source(folder, manifest, config)
    before = read_evaluation(path)
    if before is not None and before.source == source:
        return before
    if not peek:
        check_unread(folder, "eval", split, source)
    model = _classifier(folder / CHECKPOINT, manifest, config, unfinished=peek)
    if evaluation_source(folder, manifest, config) != source:
        # The run that is peeked at has gone on.
        raise InputError(f"{folder}: the checkpoint was replaced just now; run this again")
    probabilities, rows = _predict(model, f"evaluate {stage}", manifest, config)
    labels = manifest.labels[rows]
    result = summarise(
        probabilities, labels, len(manifest.classes), stage=stage, split=split, source=source
    )
    num_peeks = log_reading(folder, "eval", split, result.top1, source, peek=peek)
    result = replace(result, num_peeks=num_peeks)
    table = pa.table(
        {
            "key": [manifest.keys[row] for row in rows.tolist()],
            "label": labels,
            "probabilities": list(probabilities),
        }
    )
    publish_table(folder / f"predictions-{split}.parquet", table)
    publish_bytes(folder / f"classes-{split}.csv", _csv(class_table(result, manifest.classes)))
    picture = plots.confusion_png(np.array(result.confusion), manifest.classes)
    publish_bytes(folder / f"confusion-{split}.png", picture)
    write_evaluation(path, result)
    return result


def write_evaluation(path: Path, result: Evaluation) -> None:
    """Makes `result` the content of a JSON file."""
    publish_bytes(path, (json.dumps(asdict(result), indent=1) + "\n").encode())


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
    among_first = (ranked[:, :TOP_K] == labels[:, None]).any(axis=1)
    is_possible = probabilities[np.arange(len(labels)), labels] > 0
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, ranked[:, 0]), 1)
    sizes = confusion.sum(axis=1)
    return Evaluation(
        stage=stage,
        split=split,
        num_videos=len(labels),
        top1=float(hits.mean()),
        top5=float((among_first & is_possible).mean()),
        class_top1=[
            float(confusion[c, c] / sizes[c]) if sizes[c] else None for c in range(num_classes)
        ],
        confusion=confusion.tolist(),
        source=source,
    )


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class of an evaluation; `top1` and `mistaken_for` are None where there is nothing.

    `mistaken_for` is the wrong class predicted most often, `num_mistaken` how often.
    """

    name: str
    num_videos: int
    top1: float | None
    mistaken_for: str | None
    num_mistaken: int


def class_table(result: Evaluation, classes: Sequence[str]) -> list[ClassRow]:
    """A row per class, in their order."""
    rows = []
    for label, name in enumerate(classes):
        counts = np.array(result.confusion[label])
        num_videos, counts[label] = int(counts.sum()), 0
        worst = int(counts.argmax())
        rows.append(
            ClassRow(
                name=name,
                num_videos=num_videos,
                top1=result.class_top1[label],
                mistaken_for=classes[worst] if counts[worst] else None,
                num_mistaken=int(counts[worst]),
            )
        )
    return rows


def _csv(rows: list[ClassRow]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ClassRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def evaluation_source(folder: Path, manifest: Manifest, config: Config) -> Tree:
    """What an evaluation of the stage in `folder` depends on: checkpoint, data and settings."""
    return {
        "checkpoint": file_digest(folder / CHECKPOINT),
        "data": manifest.digest,
        "evaluation": evaluation_facts(config),
        "clips": config.classify.clips.model_dump(mode="json", exclude={"augment"}),
        "split_number": config.labels.split_number,
        "engine": engine_name(config.machine.engine, config.machine.device),
    }


def evaluation_facts(config: Config) -> Tree:
    """The settings of an evaluation that its result depends on, but for the split."""
    return config.evaluation.model_dump(mode="json", exclude={"batch_size", "split"})


def _classifier(
    checkpoint: Path, manifest: Manifest, config: Config, *, unfinished: bool
) -> Classifier:
    model = Classifier(build_backbone(config.backbone), len(manifest.classes))
    load_model(
        checkpoint,
        model,
        backbone=config.backbone,
        classes=list(manifest.classes),
        unfinished=unfinished,
    )
    return model


def _predict(
    model: Classifier, title: str, manifest: Manifest, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) mean softmax and (N,) manifest rows of the split."""
    loader = evaluation_loader(manifest, config, config.labels.of_split(config.evaluation.split))
    to_channels_last(model).to(loader.device).eval()
    config.machine.limit_threads()
    return video_means(loader, lambda clips: model(clips).float().softmax(-1), title)


def evaluation_loader(
    manifest: Manifest, config: Config, subset: Subset, world: World | None = None
) -> Loader:
    """Videos in the manifest's order, as evaluation sees them: many clips, one decode.

    Args:
        manifest: The data set.
        config: `config.evaluation` and `config.classify.clips` say which clips.
        subset: Which videos.
        world: This process's place among those that share them; default: it has all.

    Raises:
        InputError: There are none.
    """
    world = world or World()
    clips, settings = config.classify.clips, config.evaluation
    return open_loader(
        manifest,
        views.evaluation(
            num_frames=clips.num_frames,
            stride=clips.stride,
            size_px=clips.size_px,
            num_clips=settings.num_clips,
            num_crops=settings.num_crops,
        ),
        subset=subset,
        batch_size=settings.batch_size,
        engine=config.machine.engine,
        device=world.device(config.machine.device),
        num_workers=world.num_workers(config.machine.num_workers),
        rank=world.rank,
        world_size=world.size,
        shuffle=False,
    )


@torch.no_grad()
def video_means(
    loader: Loader, forward: Callable[[Tensor], Tensor], title: str, *, quiet: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """What `forward` says of every video of an `evaluation_loader`, averaged over its clips.

    Args:
        loader: The videos.
        forward: (N, 3, T, H, W) clips -> (N, D).
        title: Of the progress bar.
        quiet: No progress bar.

    Returns:
        (V, D) float32, and the (V,) manifest rows.
    """
    found, rows = [], []
    with ProgressBar(title, len(loader), quiet=quiet) as bar:
        for index, batch in enumerate(loader.batches()):
            each = forward(batch.views["clips"].flatten(0, 2)).float()
            means = each.view(len(batch.keys), -1, each.shape[-1]).mean(1).cpu()
            valid = batch.valid.cpu()
            found.append(means[valid].numpy())
            rows.append(batch.plan.rows[valid.numpy()])
            bar.update(index + 1)
    return np.concatenate(found), np.concatenate(rows)
