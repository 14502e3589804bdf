"""The student's teachers: the frozen, fine-tuned networks, each video's weight, their mixture."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from loaders import Batch, Part
from shards.format.manifest import Manifest
from tb.config.differences import Tree
from tb.config.sections import Config
from tb.method.calibration import cached_calibration
from tb.method.finetuned_teachers import load_teacher, videos_by_finetuned_teachers
from tb.method.similarity_cache import cached_similarity, similarity_key
from tb.method.weight_map import HALF_EACH, target_weights
from tb.networks.heads import Classifier
from tb.stage_kinds import StageKind, TeacherWeights
from tb.weights.checkpoint import CHECKPOINT, file_digest


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """Frozen classifiers and their weights.

    Attributes:
        networks: The invariant and the distinctive teacher, or one of them if it has all the
            weight.
        invariant_weight: (videos of the manifest,) float32 on the CPU, in [0, 1]: s of
            p_T = s p_I + (1 - s) p_D.
        source: What the targets depend on.
    """

    networks: tuple[Classifier, ...]
    invariant_weight: Tensor
    source: Tree

    def invariant_weights_of(self, *batches: Batch) -> Tensor:
        """(B of all batches,) float32: s of each video, on the batches' device."""
        rows = torch.cat([torch.from_numpy(batch.plan.rows) for batch in batches])
        return self.invariant_weight[rows].to(batches[0].labels.device, non_blocking=True)


def mix_teachers(invariant: Tensor, distinctive: Tensor, similarity: Tensor) -> Tensor:
    """p_T = s p_I + (1 - s) p_D: if a video's clips are alike, the invariant teacher counts more.

    Args:
        invariant: (B, K) probabilities p_I.
        distinctive: (B, K) probabilities p_D.
        similarity: (B,) s of each video, in [0, 1].
    """
    weight = similarity[:, None].to(invariant.dtype)
    return weight * invariant + (1 - weight) * distinctive


def load_teachers(
    manifest: Manifest,
    config: Config,
    work: Path,
    device: torch.device,
    *,
    name: str = StageKind.STUDENT,
) -> Teachers:
    """The teachers and weights that `student.teachers` asks for.

    "similarity" weighs the teachers for each video, as the paper does. "stretched" makes the lowest
    score of the training set 0 and the highest 1. This project added it, because raw scores rarely
    come near 0. It also added "calibrated", which maps the scores as `tb.method.calibration` says.
    "equal" (half each) and one teacher alone are ablations. "oracle" takes the better teacher for
    each video by the video's label. It reads hidden labels too, so it is for analysis.

    A video that could not be read when the scores were computed has no score. Both teachers then
    have half the weight for it.

    Args:
        manifest: The data set.
        config: All settings.
        work: The work folder.
        device: Where the networks are put.
        name: The student's own folder in `work`, which keeps the map of "calibrated".

    Raises:
        InputError: A teacher is missing, unfinished, or of another backbone or other classes.
    """
    kind = config.student.teachers
    source: Tree = {
        teacher.value: file_digest(work / teacher.finetuned / CHECKPOINT) for teacher in kind.used
    }
    scores, weight_map = torch.full((len(manifest),), float("nan")), HALF_EACH
    if kind.invariant_share is None:
        scores = cached_similarity(manifest, config, work)
        source["similarity"] = similarity_key(manifest, config, work)
    if kind is TeacherWeights.CALIBRATED:
        calibration = cached_calibration(manifest, config, work, work / name, scores)
        weight_map = calibration.weight_map
        source["calibration"] = calibration.identity
    if kind is TeacherWeights.ORACLE:
        weight = _oracle_weights(manifest, config, work)
        source["hidden_labels"] = True
    else:
        weight = target_weights(kind, scores, weight_map)
    networks = tuple(load_teacher(teacher, manifest, config, work, device) for teacher in kind.used)
    return Teachers(networks=networks, invariant_weight=weight, source=source)


def _oracle_weights(manifest: Manifest, config: Config, work: Path) -> Tensor:
    """(videos of the manifest,) 1 where the invariant teacher is the better one, else 0.

    A video that the teachers did not judge gets 0.5. This has no effect, because the student does
    not train on such videos.
    """
    videos = videos_by_finetuned_teachers(manifest, config, work, Part.ALL)
    weight = torch.full((len(manifest),), 0.5)
    weight[torch.from_numpy(videos.rows)] = torch.from_numpy(videos.better_teachers()).float()
    return weight
