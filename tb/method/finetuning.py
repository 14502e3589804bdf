"""Phase 2: a self-supervised teacher becomes a classifier, on the labelled videos."""

from pathlib import Path

from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.classification import new_classifier, supervised_stage
from tb.stage_kinds import Teacher
from tb.training.stage import Stage
from tb.weights.pretrained import load_pretrained


def finetune_stage(teacher: Teacher, manifest: Manifest, config: Config, init: Path) -> Stage:
    """The backbone in the file `init` and a new classifier, under cross entropy."""
    model = new_classifier(manifest, config)
    start = load_pretrained(init, model.backbone, config.normalization)
    optim = config.finetune.optim
    return supervised_stage(teacher.finetuned, model, manifest, config, optim, start)
