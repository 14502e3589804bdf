"""`student.teachers: calibrated`: the level of the similarity scores, fitted on labelled videos.

The order of the scores says more than their level. So a rising map of s (`WeightMap`) is fitted to
the labelled videos. Under this map the mixture of both teachers gives their labels the highest
likelihood. For each teacher, the fit needs predictions that did not learn from the video's label.
Linear probes on the frozen self-supervised features give such predictions by cross-fitting, in
seconds. The fine-tuned teachers, which the student learns from, would have to be trained again for
each fold.

The probes stand for the fine-tuned teachers, to which the map is applied. Probes are weaker, but
both teachers are replaced in the same way, so the fit measures the balance of the two. The map sees
s alone, because the confidences of a probe and of a fine-tuned network have different scales.
There is no temperature: it would add two numbers to fit to few labels. Probes are overconfident,
and confident predictions that are wrong pull the weights to the middle. So the map errs on the
careful side.

WORK/NAME/calibration.json keeps the map beside the student that it was fitted for.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from torch import Tensor

from loaders import Part
from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from tb.config.differences import Tree
from tb.config.sections import Config
from tb.evaluation.cross_fitting import NUM_FOLDS
from tb.evaluation.evaluate import evaluation_source
from tb.evaluation.probe_defaults import DEFAULT_L2
from tb.method.judged_videos import JudgedVideos, held_out_videos
from tb.method.similarity_cache import similarity_key
from tb.method.weight_map import (
    HALF_EACH,
    WeightMap,
    fit_weight_map,
    log_likelihood,
    target_weights,
)
from tb.stage_kinds import Teacher, TeacherWeights
from tb.training.distributed import main_first
from tb.weights.checkpoint import CHECKPOINT

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"
MIN_VIDEOS = 20
"""With fewer videos to fit to, both teachers get half the weight."""
HELD_OUT = "calibrated_held_out"
_CONSTANT = (
    "the weight is the same for all videos, because the scores do not say which teacher is right"
)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A fitted map, and how good its mixture is on the videos that it was fitted to.

    Attributes:
        offset: As in `WeightMap`.
        slope: As in `WeightMap`.
        num_videos: The labelled videos that it was fitted to.
        num_left_out: Labelled videos that could not be judged: bad videos, and those that are the
            only one of their class.
        num_folds: The folds of the cross-fitting.
        warning: Why the weight is a constant; "" where it is not.
        log_likelihood: Rule of `TeacherWeights` -> the mean log-likelihood of its mixture on these
            videos. For "calibrated_held_out", the map of each fold was fitted to the other folds.
            {} where nothing was fitted.
        right: The same keys -> the share of the videos whose label is the mixture's most probable
            class.
        source: What all this depends on.
    """

    offset: float
    slope: float
    num_videos: int
    num_left_out: int
    num_folds: int
    warning: str
    log_likelihood: dict[str, float]
    right: dict[str, float]
    source: Tree

    @property
    def weight_map(self) -> WeightMap:
        """The map."""
        return WeightMap(offset=self.offset, slope=self.slope)

    @property
    def formula(self) -> str:
        """The invariant teacher's weight as a formula of s, for people."""
        return f"sigmoid({self.offset:.2f} + {self.slope:.2f} logit(s))"

    @property
    def identity(self) -> Tree:
        """What a run's result depends on."""
        return {**self.source, "offset": self.offset, "slope": self.slope}


@main_first
def cached_calibration(
    manifest: Manifest, config: Config, work: Path, folder: Path, scores: Tensor
) -> Calibration:
    """The map in `folder` if it fits these weights, labels and settings, else a new one.

    A run that has begun keeps its file, because it resumes only under the map that it began with.

    Args:
        manifest: The data set.
        config: Labels, clips, seed.
        work: The work folder, with both self-supervised teachers.
        folder: The student's own folder.
        scores: (videos of the manifest,) from `cached_similarity`. The caller runs that function,
            because it waits for all processes, and only rank 0 runs this one.

    Raises:
        InputError: A self-supervised teacher is missing or of another backbone; or the file is not
            readable.
    """
    source = calibration_source(manifest, config, work)
    found = read_calibration(folder)
    if found is None or found.source != source:
        num_labelled = len(config.labels.subset(Part.LABELLED).rows(manifest))
        videos = held_out_videos(manifest, config, work)
        found = calibrate(videos, scores, num_labelled=num_labelled, source=source)
        if not (folder / CHECKPOINT).exists():
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps(asdict(found), indent=1) + "\n"
            publish_bytes(folder / CALIBRATION, text.encode())
    return found


def read_calibration(folder: Path) -> Calibration | None:
    """The calibration that the student in `folder` has; None where there is no such file.

    Raises:
        InputError: The file is not readable, or of another version of this program.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        return None
    try:
        tree = json.loads(path.read_bytes())
        if set(tree) != {field.name for field in fields(Calibration)}:
            raise ValueError("it has other entries")
        numbers = {name: float(tree[name]) for name in ("offset", "slope")}
        return Calibration(**tree | numbers)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{path}: not a calibration of this version ({error}); remove it, and it is made again"
        ) from error


def calibrate(
    videos: JudgedVideos, scores: Tensor, *, num_labelled: int, source: Tree
) -> Calibration:
    """Fits the map.

    Args:
        videos: The labelled videos, held out by cross-fitting.
        scores: (videos of the manifest,) the scores, NaN where there is none.
        num_labelled: How many labelled videos there are.
        source: The result's `source`.
    """
    videos = _scored(videos, scores)
    weight_map = HALF_EACH
    log_likelihoods: dict[str, float] = {}
    right: dict[str, float] = {}
    if len(videos) < MIN_VIDEOS:
        warning = (
            f"{len(videos)} of {num_labelled} labelled videos can be judged, and {MIN_VIDEOS} are"
            " needed: both teachers have the same weight"
        )
    else:
        weight_map = _fitted(videos, scores)
        warning = "" if weight_map.slope else _CONSTANT
        weights = rule_weights(videos, scores, weight_map)
        weights[HELD_OUT] = held_out_weights(videos, scores)
        mixtures = {rule: videos.mixture(each) for rule, each in weights.items()}
        log_likelihoods = {
            rule: float(log_likelihood(videos.of_labels(each))) for rule, each in mixtures.items()
        }
        right = {rule: float(videos.are_right(each).mean()) for rule, each in mixtures.items()}
    if warning:
        logger.warning("student.teachers 'calibrated': %s", warning)
    return Calibration(
        offset=weight_map.offset,
        slope=weight_map.slope,
        num_videos=len(videos),
        num_left_out=num_labelled - len(videos),
        num_folds=NUM_FOLDS,
        warning=warning,
        log_likelihood=log_likelihoods,
        right=right,
        source=source,
    )


def rule_weights(
    videos: JudgedVideos, scores: Tensor, calibrated: WeightMap
) -> dict[str, np.ndarray]:
    """Rule of `TeacherWeights` -> (N,) float64 weights of the invariant teacher.

    Args:
        videos: N videos.
        scores: (videos of the manifest,) the scores.
        calibrated: The map of the rule "calibrated".
    """
    return {
        rule.value: target_weights(rule, scores, calibrated)[videos.rows].double().numpy()
        for rule in TeacherWeights
        if not rule.reads_hidden_labels
    }


def held_out_weights(videos: JudgedVideos, scores: Tensor) -> np.ndarray:
    """(N,) calibrated weights, each fold's from a map that was fitted to the other folds.

    A video without a score gets the weight 0.5, and no map is fitted to it.
    """
    weights = np.zeros(len(videos))
    for fold in np.unique(videos.folds):
        is_held_out = videos.folds == fold
        weight_map = _fitted(videos.where(~is_held_out), scores)
        of_fold = scores[videos.rows[is_held_out]]
        weights[is_held_out] = target_weights(TeacherWeights.CALIBRATED, of_fold, weight_map)
    return weights


def weights_in_hindsight(videos: JudgedVideos, scores: Tensor) -> np.ndarray:
    """(N,) calibrated weights from a map that was fitted to these videos; for analysis only.

    No map of this kind gives their labels a higher likelihood. So this map shows the most that the
    scores can do. The map of a training shows only what its labelled videos reveal.
    """
    if not len(_scored(videos, scores)):
        return target_weights(TeacherWeights.CALIBRATED, scores[videos.rows]).double().numpy()
    weight_map = _fitted(videos, scores)
    own = target_weights(TeacherWeights.CALIBRATED, scores[videos.rows], weight_map)
    return own.double().numpy()


def _scored(videos: JudgedVideos, scores: Tensor) -> JudgedVideos:
    """The videos that have a score."""
    return videos.where(~scores[videos.rows].isnan().numpy())


def _fitted(videos: JudgedVideos, scores: Tensor) -> WeightMap:
    videos = _scored(videos, scores)
    return fit_weight_map(
        scores[videos.rows],
        videos.of_labels(videos.invariant),
        videos.of_labels(videos.distinctive),
    )


def calibration_source(manifest: Manifest, config: Config, work: Path) -> Tree:
    """What the map depends on: scores, features, labels, folds and probes.

    Raises:
        InputError: A self-supervised teacher is missing.
    """
    labelled = [
        (manifest.keys[row], int(manifest.labels[row]))
        for row in config.labels.subset(Part.LABELLED).rows(manifest).tolist()
    ]
    return {
        "similarity": similarity_key(manifest, config, work),
        "features": {
            teacher.value: evaluation_source(work / teacher.pretrained, manifest, config)
            for teacher in Teacher
        },
        "labelled": hashlib.sha256(json.dumps(labelled).encode()).hexdigest(),
        "folds": {"number": NUM_FOLDS, "seed": config.machine.seed},
        "l2": DEFAULT_L2,
    }
