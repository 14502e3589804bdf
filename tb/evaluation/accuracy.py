"""Accuracy: from predictions to top-1, top-5, classes and confusions."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from shards.files.path_kinds import is_file
from shards.files.publish import publish_bytes
from tb.config.differences import Tree

TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Accuracy of one classifier on one split; shares lie in [0, 1].

    Attributes:
        stage: Folder name of the trained stage.
        split: The split on which it was measured.
        classes: Names of the K classes.
        num_videos: Videos in that split.
        top1: Share of videos whose most probable class is right.
        top5: Share whose label is among the five most probable classes (or all, if fewer); a class
            of probability 0 is never among them.
        class_top1: Top-1 of each class; None for a class without videos.
        confusion: Counts of videos, as `confusion[label][prediction]`.
        source: What the numbers depend on: checkpoint, data and settings.
        num_peeks: How many readings of the split for this purpose were declared as peeks so far.
        num_readings: How often any command has read the split with this stage so far.
    """

    stage: str
    split: str
    classes: list[str]
    num_videos: int
    top1: float
    top5: float
    class_top1: list[float | None]
    confusion: list[list[int]]
    source: Tree
    num_peeks: int = 0
    num_readings: int = 0

    @property
    def chance(self) -> float:
        """The top-1 accuracy of guessing."""
        return 1 / len(self.classes)


def measure_accuracy(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    stage: str,
    split: str,
    source: Tree,
) -> Evaluation:
    """The accuracy of predictions.

    Args:
        probabilities: (N, K) float rows that sum to 1.
        labels: (N,) int64 in [0, K).
        classes: Names of the K classes.
        stage: The result's `stage`.
        split: The result's `split`.
        source: The result's `source`.
    """
    num_classes = len(classes)
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
        classes=list(classes),
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
    """One class of an evaluation.

    Attributes:
        name: The class.
        num_videos: Its videos.
        top1: The share predicted right, in [0, 1]; None without videos.
        mistaken_for: The wrong class that was predicted most often; None without mistakes.
        num_mistaken: How often that wrong class was predicted.
    """

    name: str
    num_videos: int
    top1: float | None
    mistaken_for: str | None
    num_mistaken: int


def class_table(result: Evaluation) -> list[ClassRow]:
    """One row for each class, in their order."""
    rows = []
    for label, name in enumerate(result.classes):
        counts = np.array(result.confusion[label])
        num_videos, counts[label] = int(counts.sum()), 0
        worst = int(counts.argmax())
        rows.append(
            ClassRow(
                name=name,
                num_videos=num_videos,
                top1=result.class_top1[label],
                mistaken_for=result.classes[worst] if counts[worst] else None,
                num_mistaken=int(counts[worst]),
            )
        )
    return rows


def csv_of(rows: list[ClassRow]) -> bytes:
    """The rows as a CSV file."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(ClassRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def write_evaluation(path: Path, result: Evaluation) -> None:
    """Makes `result` the content of a JSON file."""
    publish_bytes(path, (json.dumps(asdict(result), indent=1) + "\n").encode())


def read_evaluation(path: Path) -> Evaluation | None:
    """The evaluation in a file; None if there is no file, or one of another version."""
    return evaluation_from(json.loads(path.read_text())) if is_file(path) else None


def evaluation_from(tree: Tree) -> Evaluation | None:
    """An evaluation from its JSON; None where another version of this program wrote it."""
    known = {field.name for field in fields(Evaluation)}
    return Evaluation(**tree) if set(tree) == known else None
