import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from loaders import Batch
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.networks.backbones import BACKBONES, build_backbone
from tb.networks.heads import Classifier, Embedder
from tb.training.activation_checkpointing import checkpoint_activations
from tb.training.loop import train
from tb.training.preparation import prepare
from tb.training.reporter import TrainingError
from tb.training.world import World
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tests.tb.steps import watched


def loss_and_saved_bytes(model: nn.Module, clips: Tensor) -> tuple[Tensor, int]:
    """A loss, and the bytes that its forward pass keeps for the backward pass, with weights."""
    sizes: list[int] = []

    def pack(value: Tensor) -> Tensor:
        sizes.append(value.numel() * value.element_size())
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss = nn.functional.cross_entropy(model(clips), torch.tensor([0, 3]))
    return loss, sum(sizes)


@pytest.mark.parametrize(("name", "num_blocks"), [("slow_r50", 16), ("r3d_18", 8)])
def test_recomputed_activations_take_less_memory_and_change_nothing(
    name: str, num_blocks: int
) -> None:
    torch.manual_seed(0)
    model = Classifier(build_backbone(name), 5, dropout=0.0)
    other = copy.deepcopy(model)
    assert checkpoint_activations(other) == num_blocks
    clips = torch.rand(2, 3, 8, 32, 32)
    loss, size = loss_and_saved_bytes(model, clips)
    other_loss, other_size = loss_and_saved_bytes(other, clips)
    assert other_size < size / 2
    loss.backward()
    other_loss.backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert torch.equal(one.grad, two.grad)
    before, after = model.state_dict(), other.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)  # running statistics too


def test_a_run_may_begin_to_recompute_and_ends_the_same(
    manifest: Manifest, config: Config, finished: Path, tmp_path: Path
) -> None:
    machine = config.machine.model_copy(update={"activation_checkpointing": True})
    recomputing = config.model_copy(update={"machine": machine})
    path = train(supervised_only_stage(manifest, recomputing), tmp_path, recomputing)
    assert file_digest(path) == file_digest(finished / "supervised" / CHECKPOINT)


def test_out_of_memory_names_the_settings(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    stage = supervised_only_stage(manifest, config)
    calls = [0]

    def run_out(batches: tuple[Batch, ...]) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ..."
            )

    with pytest.raises(TrainingError) as caught:
        train(watched(stage, run_out), tmp_path, config)
    for word in ("activation_checkpointing", "accumulate", "batch_size", "size_px"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert load_checkpoint(tmp_path / "supervised" / CHECKPOINT)["step"] == 2


def test_synchronised_statistics_need_gpus(manifest: Manifest, config: Config) -> None:
    stage = supervised_only_stage(manifest, config)
    machine = config.machine.model_copy(update={"sync_bn": True})
    with pytest.raises(InputError, match="sync_bn works on GPUs only"):
        prepare(stage, machine, World(rank=0, size=2))
    prepare(stage, machine, World())
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in stage.model.modules())


def embed(model: Embedder, clips: Tensor) -> Tensor:
    features = model.backbone(clips)
    return torch.cat([model.pooled(features)[:, None], model.slices(features)], dim=1)


@pytest.mark.parametrize(
    ("name", "recompute"),
    [
        pytest.param(x, y, marks=[] if x == "small" and not y else pytest.mark.slow)
        for x in BACKBONES
        for y in (False, True)
    ],
)
def test_networks_compile_as_one_graph_and_equal_eager(name: str, recompute: bool) -> None:
    """Tracing decides this. The code that a back end makes of the graph would take long."""
    torch.manual_seed(0)
    model = Embedder(build_backbone(name))
    other = copy.deepcopy(model)
    if recompute:
        checkpoint_activations(other)
    clips, target = torch.rand(2, 3, 8, 32, 32), torch.rand(2, 5, 128)
    compiled = torch.compile(embed, fullgraph=True, backend="aot_eager")
    expected, found = embed(model, clips), compiled(other, clips)
    assert torch.allclose(found, expected, atol=1e-5)
    for value in (expected, found):
        (value * target).sum().backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert (one.grad - two.grad).norm() <= 1e-4 * one.grad.norm()
    before, after = model.state_dict(), other.state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-5) for key in before)
