"""What the student learns from: the frozen, fine-tuned teachers, mixed per video."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from shards.format.manifest import Manifest
from tb import losses
from tb.config.settings import Config, Tree
from tb.method.scores import TEACHERS, cached_similarity, similarity_key
from tb.networks.models import Classifier, build_backbone, to_channels_last
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_model


def finetuned(teacher: str) -> str:
    """Folder name of a fine-tuned teacher."""
    return f"finetune-{teacher}"


@dataclass(frozen=True, kw_only=True)
class Teachers:
    """Frozen classifiers and their weights.

    Attributes:
        networks: In the order of TEACHERS; None for one that has no weight on any video.
        invariant_weight: (videos of the manifest,) float32 on the CPU, in [0, 1]: s of
            p_T = s p_I + (1 - s) p_D.
        source: What the targets depend on.
    """

    networks: tuple[Classifier | None, Classifier | None]
    invariant_weight: Tensor
    source: Tree

    @torch.no_grad()
    def target(self, clips: Tensor, rows: Tensor) -> Tensor:
        """p_T of (B, 3, T, H, W) clips of the videos in manifest rows (B,): (B, K)."""
        probs = [net(clips).float().softmax(-1) for net in self.networks if net is not None]
        if len(probs) == 1:
            return torch.as_tensor(probs[0])
        invariant, distinctive = probs
        weight = self.invariant_weight[rows].to(clips.device)
        return losses.mix_teachers(invariant, distinctive, weight)


def load_teachers(manifest: Manifest, config: Config, work: Path, device: torch.device) -> Teachers:
    """The teachers that `student.teachers` names, with the weights that it asks for.

    "similarity" weighs them per video as the paper does; "stretched" likewise, with the lowest
    score of the training set made 0 and the highest 1 (ours: raw scores rarely come near 0);
    "equal" (half each) and one teacher alone are ablations.

    Raises:
        InputError: A teacher is missing, unfinished, or of another backbone or other classes.
    """
    kind = config.student.teachers
    used = tuple(name for name in TEACHERS if name == kind) or TEACHERS
    source: Tree = {name: file_digest(work / finetuned(name) / CHECKPOINT) for name in used}
    if kind in ("similarity", "stretched"):
        weight = cached_similarity(manifest, config, work)
        weight = stretch(weight) if kind == "stretched" else weight
        source["similarity"] = similarity_key(manifest, config, work)
    else:
        share = {"equal": 0.5, "invariant": 1.0, "distinctive": 0.0}[kind]
        weight = torch.full((len(manifest),), share)
    invariant, distinctive = (
        _frozen(name, manifest, config, work, device) if name in used else None for name in TEACHERS
    )
    return Teachers(networks=(invariant, distinctive), invariant_weight=weight, source=source)


def stretch(scores: Tensor) -> Tensor:
    """Scores mapped linearly onto [0, 1]; NaN stays, and scores that are all alike become 0.5.

    Args:
        scores: (N,).
    """
    known = scores[~scores.isnan()]
    low, high = known.min(), known.max()
    return (scores - low) / (high - low) if high > low else scores - low + 0.5


def _frozen(
    name: str, manifest: Manifest, config: Config, work: Path, device: torch.device
) -> Classifier:
    path = work / finetuned(name) / CHECKPOINT
    model = Classifier(build_backbone(config.backbone), len(manifest.classes))
    load_model(path, model, backbone=config.backbone, classes=list(manifest.classes))
    to_channels_last(model)
    return model.to(device).eval().requires_grad_(False)
