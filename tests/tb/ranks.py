"""What one process of several does."""

from pathlib import Path

from torch import nn

from shards.format.manifest import Manifest, read_manifest
from tb.config.load_config import load_config
from tb.method.stages import build_stage
from tb.stage_kinds import StageKind
from tb.training.distributed import join, main_first
from tb.training.loop import train
from tb.training.stage import Stage
from tests.tb.conftest import QUICK

# At so small a rate the weights stay, so Adam's moments are sums of plain gradients.
SETTINGS = (
    *QUICK,
    "machine.num_threads=1",
    "machine.in_process=false",
    "machine.tensorboard=false",
    "classify.dropout=0",
    "pretrain.optim={steps: 3, batch_size: 4, lr: 1.0e-9, warmup_steps: 0, clip_norm: 0.1}",
    "pretrain.pooled_reduction=sum",
    # Windows of 64 frames, some of which are reflected, and a queue of two batches.
    "pretrain.clips.num_frames=8",
    "pretrain.mask_reflected=true",
    "pretrain.num_queued=8",
    "finetune.optim={steps: 3, batch_size: 4, lr: 1.0e-9, warmup_steps: 0}",
    "student.optim={steps: 3, batch_size: 4, lr: 1.0e-9, warmup_steps: 0, schedule: plateau}",
)
# In the order of the enum, each finds what it needs.
STAGES = tuple(kind for kind in StageKind if kind is not StageKind.PSEUDO_LABEL)


def freeze_statistics(stage: Stage) -> Stage:
    """The stage with batch norm that does not depend on how the batch is shared."""
    for module in stage.model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
    return stage


def train_all(manifest: Manifest, work: Path, *settings: str) -> None:
    """A few steps of every kind of loss, and of one with videos held out."""
    for name in STAGES:
        labels = (
            "{percent: 100, validation: 0.5}" if name is StageKind.SUPERVISED else "{percent: 50}"
        )
        config = load_config("demo", [*SETTINGS, f"labels={labels}", *settings])
        train(freeze_statistics(build_stage(name, manifest, config, work)), work, config)


@main_first
def first_come(path: Path) -> str:
    """Which rank made the file."""
    if not path.exists():
        path.write_text(f"rank {join().rank}")
    return path.read_text()


def run_rank(shards: Path, out: Path, *settings: str) -> None:
    """Trains everything as one of the processes."""
    train_all(read_manifest(shards), out, *settings)
    assert first_come(out / "first") == "rank 0"
