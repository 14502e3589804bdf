"""`tb eval`: video-level accuracy of a classifier on a held-out split.

The softmax is averaged over the clips and crops of a video. The split is read once, because no
choice may depend on it. A second reading must be declared, and the record shows it.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from shards.errors import InputError
from shards.files.lock import locked
from shards.files.parquet import publish_table, read_table
from shards.files.path_kinds import is_file
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.differences import Tree
from tb.config.sections import Config
from tb.evaluation.accuracy import (
    Evaluation,
    class_table,
    csv_of,
    measure_accuracy,
    read_evaluation,
    write_evaluation,
)
from tb.evaluation.clips import evaluation_loader, video_means
from tb.evaluation.confusion import confusion_png
from tb.evaluation.held_out_readings import Reading, check_unread, log_reading, num_readings
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier, to_channels_last
from tb.training.distributed import main_first
from tb.training.engine_record import pixels_from, with_engine_of
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_model

_PREDICTIONS = "predictions-{split}.parquet"


@main_first
def evaluate(
    stage: str, manifest: Manifest, config: Config, work: Path, *, peek: bool = False
) -> Evaluation:
    """Evaluates WORK/STAGE, or returns what an earlier call with the same inputs found.

    It writes into WORK/STAGE: predictions-SPLIT.parquet (key, label, probabilities),
    classes-SPLIT.csv (see `class_table`), confusion-SPLIT.png and, last, eval-SPLIT.json. It adds
    a line to evaluations.jsonl.

    Args:
        stage: Its folder in `work`.
        manifest: The data set.
        config: Its settings.
        work: The work folder.
        peek: Read the split although this is not the one reading that counts: before training is
            over, or again with other weights or settings. The record counts such readings.

    Raises:
        InputError: The stage has no classifier, is not trained, or is of another backbone or other
            classes; or the split is empty; or it was read already with other weights, data or
            settings, and `peek` is False.
    """
    folder = work / stage
    if not is_file(folder / CHECKPOINT):
        raise InputError(f"{folder / CHECKPOINT}: no such checkpoint; train that stage first")
    # If another process evaluates it, this one waits and takes its result.
    with locked(folder / ".evaluation.lock", f"{folder}: locked", patience_s=float("inf")):
        return _evaluate(stage, manifest, config, work, peek)


def _evaluate(stage: str, manifest: Manifest, config: Config, work: Path, peek: bool) -> Evaluation:
    folder = work / stage
    config = with_engine_of(folder, manifest, config)
    split = config.evaluation.split
    path = folder / f"eval-{split}.json"
    source = evaluation_source(folder, manifest, config)
    before = read_evaluation(path)
    if before is not None and before.source == source:
        return replace(before, num_readings=num_readings(folder, split))
    if not peek:
        check_unread(folder, Reading.EVALUATION, split, source)
    model = _classifier(folder / CHECKPOINT, manifest, config, unfinished=peek)
    if evaluation_source(folder, manifest, config) != source:
        # The run is still training, and has just saved another checkpoint.
        raise InputError(f"{folder}: the checkpoint was replaced just now; run this again")
    probabilities, rows = _predict(model, f"evaluate {stage}", manifest, config)
    labels = manifest.labels[rows]
    result = measure_accuracy(
        probabilities, labels, manifest.classes, stage=stage, split=split, source=source
    )
    num_peeks = log_reading(folder, Reading.EVALUATION, split, result.top1, source, peek=peek)
    result = replace(result, num_peeks=num_peeks, num_readings=num_readings(folder, split))
    table = pa.table(
        {
            "key": [manifest.keys[row] for row in rows.tolist()],
            "label": labels,
            "probabilities": list(probabilities),
        }
    )
    publish_table(folder / _PREDICTIONS.format(split=split), table)
    publish_bytes(folder / f"classes-{split}.csv", csv_of(class_table(result)))
    picture = confusion_png(np.array(result.confusion), manifest.classes)
    publish_bytes(folder / f"confusion-{split}.png", picture)
    write_evaluation(path, result)
    return result


def read_hits(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a stage's predictions.

    Args:
        folder: The stage's folder.
        split: The split that was evaluated.

    Returns:
        (V,) int64 labels of the videos, in the order of the manifest, and (V,) bool whether the
        most probable class is the label.

    Raises:
        InputError: The file is missing or not readable.
    """
    path = folder / _PREDICTIONS.format(split=split)
    try:
        with path.open("rb") as file:
            table = read_table(file)
        labels = table.column("label").to_numpy()
        probabilities = np.stack(table.column("probabilities").to_numpy())
    except (OSError, KeyError, pa.ArrowException) as error:
        raise InputError(
            f"{path}: not readable ({error}); delete {folder}, and run the command that made it"
        ) from None
    return labels, probabilities.argmax(axis=1) == labels


def evaluation_source(folder: Path, manifest: Manifest, config: Config) -> Tree:
    """What an evaluation of the stage in `folder` depends on: checkpoint, data and settings."""
    machine = with_engine_of(folder, manifest, config).machine
    return {
        "checkpoint": file_digest(folder / CHECKPOINT),
        "data": manifest.digest,
        "evaluation": evaluation_settings(config),
        "clips": config.classify.clips.frame_settings(),
        "split_number": config.labels.split_number,
        **config.input_settings(),
        "engine": pixels_from(machine.engine, machine.dali_views),
    }


def evaluation_settings(config: Config) -> Tree:
    """The settings on which the result of an evaluation depends, without the split."""
    return config.evaluation.model_dump(mode="json", exclude={"batch_size", "split"})


def _classifier(
    checkpoint: Path, manifest: Manifest, config: Config, *, unfinished: bool
) -> Classifier:
    model = Classifier(build_backbone(config.backbone), len(manifest.classes))
    load_model(
        checkpoint,
        model,
        classes=list(manifest.classes),
        normalization=config.normalization,
        unfinished=unfinished,
    )
    return model


def _predict(
    model: Classifier, title: str, manifest: Manifest, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) mean softmax and (N,) manifest rows of the split."""
    subset = config.labels.of_split(config.evaluation.split)
    config.machine.limit_threads()
    with closing(evaluation_loader(manifest, config, subset)) as loader:
        to_channels_last(model).to(loader.device).eval()
        return video_means(loader, lambda clips: model(clips).float().softmax(-1), title)
