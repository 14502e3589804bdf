"""Videos with labels, and both teachers' predictions for them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.cross_fitting import NO_FOLD, fold_numbers, held_out_probabilities
from tb.evaluation.features import labelled_features
from tb.stage_kinds import Teacher


@dataclass(frozen=True, kw_only=True)
class JudgedVideos:
    """N videos, their labels and both teachers' predictions.

    Attributes:
        rows: (N,) int64 manifest rows, ascending.
        labels: (N,) int64 in [0, K).
        folds: (N,) int64: the fold of each video; all 0 where nothing was cross-fitted.
        invariant: (N, K) float64: p_I.
        distinctive: (N, K) float64: p_D.
    """

    rows: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    invariant: np.ndarray
    distinctive: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def mixture(self, weights: np.ndarray) -> np.ndarray:
        """(N, K) p_T under (N,) weights of the invariant teacher."""
        weight = weights[:, None]
        mixed: np.ndarray = weight * self.invariant + (1 - weight) * self.distinctive
        return mixed

    def of_labels(self, probabilities: np.ndarray) -> np.ndarray:
        """(N,) the probabilities of the labels, out of (N, K) probabilities."""
        found: np.ndarray = probabilities[np.arange(len(self)), self.labels]
        return found

    def are_right(self, probabilities: np.ndarray) -> np.ndarray:
        """(N,) bool: whether the label is the most probable class of (N, K) probabilities."""
        right: np.ndarray = probabilities.argmax(axis=1) == self.labels
        return right

    def better_teachers(self) -> np.ndarray:
        """(N,) float64: 1 where the invariant teacher gives the label more probability, else 0."""
        found = self.of_labels(self.invariant) > self.of_labels(self.distinctive)
        return found.astype(np.float64)

    def where(self, chosen: np.ndarray) -> "JudgedVideos":
        """Some of the videos; `chosen` is (N,) bool."""
        return JudgedVideos(
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            folds=self.folds[chosen],
            invariant=self.invariant[chosen],
            distinctive=self.distinctive[chosen],
        )


def held_out_videos(manifest: Manifest, config: Config, work: Path) -> JudgedVideos:
    """The labelled training videos, each judged by probes that learned from the others.

    The probes are linear and see the frozen features of the self-supervised teachers, so that no
    network is trained again (see `tb.evaluation.cross_fitting`). The only labelled video of a class
    is left out. Under `machine.on_error` "skip", a video that a teacher could not read is left out
    too.

    Raises:
        InputError: A self-supervised teacher is not trained or of another backbone.
    """
    features = [
        labelled_features(teacher.pretrained, manifest, config, work) for teacher in Teacher
    ]
    # Each teacher reads the videos itself, and a disk may fail for only one of the two.
    one, other = features
    rows = np.intersect1d(one.rows, other.rows)
    labels, keys = manifest.labels[rows], [manifest.keys[row] for row in rows.tolist()]
    folds = fold_numbers(keys, labels, config.machine.seed)
    invariant, distinctive = (
        held_out_probabilities(
            each.vectors[np.isin(each.rows, rows)],
            torch.from_numpy(labels),
            folds,
            len(manifest.classes),
        ).numpy()
        for each in features
    )
    everything = JudgedVideos(
        rows=rows,
        labels=labels,
        folds=folds,
        invariant=invariant,
        distinctive=distinctive,
    )
    return everything.where(folds != NO_FOLD)
