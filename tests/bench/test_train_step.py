"""The training-step benchmark runs and compares equal losses. Its timings are not tested."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from bench.train_step import TimedStep, TrainingJob, main
from bench.train_variants import Variant
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.networks.backbones import Backbone


def test_it_writes_a_row_for_every_variant(manifest: Manifest, tmp_path: Path) -> None:
    report = tmp_path / "step.json"
    arguments = ["--device", "cpu", "--backbone", "small", "--size", "16", "--batch-size", "2"]
    arguments += ["--rounds", "1", "--steps", "1", "--stages", "finetune", "invariant"]
    arguments += ["--variants", "plain", "forwards apart", "loader"]
    arguments += ["--shards", str(manifest.root), "--json", str(report)]
    main(arguments)
    rows = json.loads(report.read_text())["rows"]
    found = {(row["stage"], row["name"]): row for row in rows}
    assert found.keys() == {
        *(("finetune", name) for name in ("ours", "plain", "loader")),
        *(("invariant", name) for name in ("ours", "plain", "forwards apart", "loader")),
    }
    for row in rows:
        assert row["videos_per_s"] == pytest.approx(2 / row["step_s"])
        assert row["mfu"] is None  # a CPU's peak is not known
    assert found["invariant", "plain"]["speed_against_plain"] == 1
    # 10 clips of 16 frames a video against one of 8.
    flops = [found[stage, "ours"]["teraflop_per_step"] for stage in ("invariant", "finetune")]
    assert flops[0] / flops[1] == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize(("stage", "num_networks"), [("invariant", 1), ("student", 3)])
def test_a_compiled_step_compiles_every_network(stage: str, num_networks: int) -> None:
    """As the training does; the student's two teachers run more forward passes than its network."""
    job = TrainingJob(
        stage=stage,
        config=load_config("demo"),
        batch_size=2,
        device=torch.device("cpu"),
        shards=None,
    )
    for compiled in (False, True):
        variant = Variant(name="", amp="off", compiled=compiled)
        with ExitStack() as stack:
            step = TimedStep(job, variant, stack)
        found = [
            module._compiled_call_impl is not None
            for network in (step.model, *step.teachers)
            for module in network.modules()
            if isinstance(module, Backbone)
        ]
        assert found == [compiled] * num_networks


@pytest.mark.parametrize("stage", ["invariant", "tclr", "student"])
def test_forwards_apart_have_the_loss_of_forwards_together(stage: str) -> None:
    """With batch norm and dropout frozen, where the two must not differ."""
    config = load_config("demo")
    job = TrainingJob(
        stage=stage, config=config, batch_size=2, device=torch.device("cpu"), shards=None
    )
    found = []
    with ExitStack() as stack:
        for together in (True, False):
            variant = Variant(name="", amp="off", channels_last=together, together=together)
            step = TimedStep(job, variant, stack)
            step.model.eval()
            torch.manual_seed(0)
            with torch.no_grad():
                found.append(step._loss(next(step.batches)).item())
    assert found[0] == pytest.approx(found[1], rel=1e-4)
