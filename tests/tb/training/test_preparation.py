"""What is compiled, and in which mode."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from loaders.engines.engine import EngineName
from loaders.loader_process.process_producer import DaliProducer
from loaders.placement import Making
from loaders.producer import LocalProducer
from shards.errors import InputError
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tb.config.load_config import load_config
from tb.config.sections import Compile, Config, Machine
from tb.method.baselines import supervised_only_stage
from tb.method.stages import build_stage
from tb.networks.backbones import Backbone
from tb.stage_kinds import StageKind
from tb.training import loop
from tb.training.metrics import METRICS, read_metrics
from tb.training.preparation import GRAPH_MODES, NOT_COMPILED, compile_backbones, compile_mode
from tb.training.stage import Stage
from tests.tb.conftest import QUICK
from tests.tb.steps import watched


def _compiled(network: nn.Module) -> list[bool]:
    return [
        module._compiled_call_impl is not None
        for module in network.modules()
        if isinstance(module, Backbone)
    ]


@pytest.mark.parametrize("kind", [StageKind.STUDENT, StageKind.MEAN_TEACHER])
def test_every_network_of_a_step_is_compiled(
    kind: StageKind, manifest: Manifest, config: Config, finished: Path
) -> None:
    stage = build_stage(kind, manifest, config, finished)
    others = [*stage.frozen, *([stage.average] if stage.average else [])]
    assert len(others) == (2 if kind is StageKind.STUDENT else 1)
    compile_backbones(stage, NOT_COMPILED)
    assert not any(_compiled(stage.model))
    compile_backbones(stage, "default")
    for network in (stage.model, *others):
        assert _compiled(network) == [True]
    stage.close()


MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def _machine(mode: str) -> Machine:
    return Machine.model_validate({"compile": Compile.ON, "compile_mode": mode})


def _on_a_gpu(stage: Stage, engine: str, in_process: bool) -> Stage:
    """The stage as it would stand on a GPU; nothing runs there."""
    (loader,) = stage.loaders
    loader.producer.close()
    loader.device = torch.device("cuda")
    if engine == "fused":
        making = Making(
            cache=True,
            dtype="float32",
            device=torch.device("cpu"),
            num_workers=1,
            in_process=in_process,
            lookahead_mb=None,
            max_kept_batches=None,
            layout=None,
        )
        loader.producer = making.open(loader.planner, EngineName.FUSED)
        return stage
    dali = pytest.importorskip("loaders.engines.dali.engine", reason="needs DALI")
    opened = dali.DaliEngine(
        spec=loader.spec,
        is_bt709=np.zeros(len(loader.rows), bool),
        picture_px=1.0,
        dtype="float32",
        device=loader.device,
        batch_size=1,
        decodes=True,
        sample_bytes=1,
        num_workers=1,
        num_decoders=1,
        layout=dali.DaliLayout(num_pipelines=1, depth=1),
    )
    if in_process:
        loader.producer = LocalProducer(loader.planner, ShardReader(loader.manifest), opened)
    else:
        loader.producer = DaliProducer(loader.planner, opened, cache=True, num_workers=1)
    return stage


def test_the_modes_with_graphs_are_those_of_torch() -> None:
    options = {mode: torch._inductor.list_mode_options(mode) for mode in MODES}
    assert {mode for mode in MODES if options[mode].get("triton.cudagraphs")} == set(GRAPH_MODES)


@pytest.mark.parametrize("in_process", [True, False], ids=["threads here", "loader process"])
@pytest.mark.parametrize("engine", ["fused", "dali"])
@pytest.mark.parametrize("mode", MODES)
def test_cuda_graphs_are_refused_where_dali_would_end_their_capture(
    mode: str, engine: str, in_process: bool, manifest: Manifest, config: Config
) -> None:
    stage = supervised_only_stage(manifest, config)
    assert compile_mode(_machine(mode), stage) == mode  # on the CPU
    stage = _on_a_gpu(stage, engine, in_process)
    off = _machine("default").model_copy(update={"compile": Compile.OFF})
    assert compile_mode(off, stage) == NOT_COMPILED
    if engine == "dali" and mode in GRAPH_MODES:
        with pytest.raises(InputError, match=f"compile_mode is '{mode}'.*machine.engine=fused"):
            compile_mode(_machine(mode), stage)
    else:
        assert compile_mode(_machine(mode), stage) == mode
    stage.close()


@pytest.mark.parametrize("mode", MODES)
def test_cuda_graphs_are_told_where_a_step_begins_and_not_where_a_piece_does(
    mode: str, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    optim = ["student.optim.accumulate=2", "student.optim.steps=2"]
    machine = ["machine.compile=on", f"machine.compile_mode={mode}"]
    config = load_config("demo", [*QUICK, *optim, *machine])
    events = []
    monkeypatch.setattr(
        torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("step begins")
    )
    monkeypatch.setattr(loop, "compile_backbones", lambda *_: None)  # it would take minutes
    stage = supervised_only_stage(manifest, config)
    loop.train(watched(stage, lambda batches: events.append("piece")), tmp_path, config)
    told = ["step begins"] if mode in GRAPH_MODES else []
    assert events == 2 * [*told, "piece", "piece"]


@pytest.mark.gpu
def test_cuda_graphs_do_not_change_the_losses(manifest: Manifest, tmp_path: Path) -> None:
    """Five steps of two pieces: PyTorch runs a graph eagerly, then captures it, then replays it."""
    optim = ["student.optim.accumulate=2", "student.optim.steps=5", "classify.dropout=0"]
    machine = ["machine.device=cuda", "machine.engine=fused", "machine.amp=off"]
    found = []
    for mode in ("default", "reduce-overhead"):
        modes = ["machine.compile=on", f"machine.compile_mode={mode}"]
        config = load_config("demo", [*QUICK, *optim, *machine, *modes])
        path = loop.train(supervised_only_stage(manifest, config), tmp_path / mode, config)
        found.append([row["loss"] for row in read_metrics(path.parent / METRICS)])
    assert len(found[0]) == 5
    assert found[1] == pytest.approx(found[0], rel=1e-3)
