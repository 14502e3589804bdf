"""Between two logged steps, training never waits for the GPU.

A tensor of the device "meta" has a shape and no values. These runs have it in the place of a GPU,
with all networks and batches on it. So a step fails where it reads a value back, and also where it
asks how many values are not 0. What stays on the CPU, such as a plan, can be read as always.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from loaders import Batch, Loader
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.augmentation import DrawnAugmentation
from tb.method.stages import build_stage
from tb.stage_kinds import FINETUNED, StageKind
from tb.training.bad_videos import PartlyBad
from tb.training.loop import train
from tb.training.optimizer import Optimizer
from tb.training.stage import Stage
from tb.training.step import Step
from tb.training.step_values import Terms
from tests.tb.conftest import QUICK
from tests.tb.steps import StoppedError, watched, with_terms

META = torch.device("meta")
NO_VALUES = "meta tensor|register_meta|meta device|run this operator with Meta"
NUM_BATCHES = 4
EVERYTHING = (
    *QUICK,
    *("machine.checkpoint_steps=100", "machine.log_steps=100", "machine.tensorboard=false"),
    *("machine.on_error=skip", "machine.max_bad_share=1"),
    *("pretrain.num_queued=5", "pretrain.mask_reflected=true"),
    "pretrain.optim={steps: 100, batch_size: 4, clips_per_video: 2, clip_norm: 1, ema_decay: 0.9}",
    "finetune.optim={steps: 100, accumulate: 2, clip_norm: 1, ema_decay: 0.9}",
    "student.optim={steps: 100, clip_norm: 1}",
)
# The student's step knows only whether it has two teachers, with a weight for each video, or one.
LATER_STAGES: list[tuple[StageKind, tuple[str, ...]]] = [
    *((kind, ()) for kind in FINETUNED),
    (StageKind.STUDENT, ("student.teachers=similarity", "student.distance=l2")),
    (StageKind.STUDENT, ("student.teachers=equal", "student.distance=kl")),
    (StageKind.STUDENT, ("student.teachers=invariant", "student.distance=js")),
]
FIRST_STAGES = [kind for kind in StageKind if kind not in (*FINETUNED, StageKind.STUDENT)]
READS: dict[str, Callable[[Tensor], object]] = {
    "item": Tensor.item,
    "float": float,
    "bool": lambda value: bool(value > 0),
    "cpu": Tensor.cpu,
    "to": lambda value: value.to("cpu", non_blocking=True),
    "tolist": Tensor.tolist,
    "numpy": lambda value: value.numpy(),
    "nonzero": torch.nonzero,
    "mask": lambda value: value[value > 0],
    "equal": lambda value: torch.equal(value, value),
}


class WaitingError(Exception):
    """A copy to the GPU for which the CPU waits."""


class _NoWaiting(TorchDispatchMode):
    """Refuses copies to the GPU that are not `non_blocking`: they wait for all work before them."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default:
            source, is_async = args[0], bool((kwargs or {}).get("non_blocking"))
        elif func is torch.ops.aten.copy_.default:
            source, is_async = args[1], len(args) > 2 and args[2]
        else:
            return found
        if source.device != found.device and not is_async:
            raise WaitingError(f"{func} from {source.device} to {found.device}")
        return found


class _OnMeta:
    """A loader of some batches of another one, which it puts on the device "meta".

    The first and the last batch have good videos. The second has a bad video, and the third has
    only bad ones. The first window of each batch is reflected.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader, self.device = loader, META

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def stream(self, position: int) -> Generator[Batch]:
        with closing(self._loader.stream(position)) as batches:
            for number, batch in enumerate(islice(batches, NUM_BATCHES)):
                num_bad = (0, 1, len(batch.keys))[number % 3]
                padded = np.arange(len(batch.keys)) == 0
                yield replace(
                    batch,
                    views={name: self._moved(views) for name, views in batch.views.items()},
                    labels=self._moved(batch.labels),
                    valid=self._moved(batch.valid),
                    bad=tuple(range(num_bad)),
                    plan=replace(batch.plan, padded=padded),
                )
        raise StoppedError

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage], Stage]:
    """Gives a stage batches on the device "meta", and an augmentation of every clip.

    The loop puts the network that it trains where the batches are.
    """
    autocast = torch.autocast

    def autocast_of(device: str, *args: Any, **kwargs: Any) -> torch.autocast:
        # "meta" has no autocast. That of the CPU changes nothing for it.
        return autocast("cpu" if device == META.type else device, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", autocast_of)
    augment = DrawnAugmentation(
        augment=lambda clips, draws, _: clips + draws[:, :1, None, None, None], name="", seed=0
    )

    def put(stage: Stage) -> Stage:
        def take(step: Step) -> None:
            with _NoWaiting():
                stage.step(step)

        for network in stage.frozen:
            network.to(META)
        loaders: Any = tuple(map(_OnMeta, stage.loaders))
        return replace(stage, loaders=loaders, step=take, augment=augment)

    return put


def settings(*more: str) -> Config:
    return load_config("demo", (*EVERYTHING, *more))


def check(stage: Stage, work: Path, config: Config) -> None:
    """Trains a stage on "meta" as far as there are batches."""
    seen: list[tuple[Batch, ...]] = []
    with pytest.raises(StoppedError):
        train(watched(stage, seen.append), work, config)
    assert [type(batches[0]) for batches in seen[:2]] == [Batch, PartlyBad]
    tensors = [tensor for batch in seen[0] for tensor in (*batch.views.values(), batch.labels)]
    assert {tensor.device for tensor in (*tensors, *stage.model.parameters())} == {META}


@pytest.mark.parametrize("kind", FIRST_STAGES)
def test_a_step_reads_no_value_of_the_device(
    manifest: Manifest, tmp_path: Path, on_meta: Callable[[Stage], Stage], kind: StageKind
) -> None:
    config = settings()
    check(on_meta(build_stage(kind, manifest, config, tmp_path)), tmp_path, config)


@pytest.mark.parametrize(("kind", "more"), LATER_STAGES)
def test_a_step_of_a_later_stage_reads_no_value_of_the_device(
    manifest: Manifest,
    finished: Path,
    tmp_path: Path,
    on_meta: Callable[[Stage], Stage],
    kind: StageKind,
    more: tuple[str, ...],
) -> None:
    config = settings(*more)
    check(on_meta(build_stage(kind, manifest, config, finished)), tmp_path, config)


@pytest.mark.parametrize("how", READS)
def test_a_value_on_this_device_cannot_be_read(how: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=NO_VALUES):
        READS[how](torch.ones((), device=META))


def test_such_a_run_fails_where_a_step_reads_a_value(
    manifest: Manifest, tmp_path: Path, on_meta: Callable[[Stage], Stage]
) -> None:
    number = count(1)

    def read(terms: Terms) -> Terms:
        if next(number) == 2:
            terms["loss"].item()
        return terms

    config = settings()
    stage = with_terms(build_stage(StageKind.SUPERVISED, manifest, config, tmp_path), read)
    with pytest.raises(RuntimeError, match=NO_VALUES):
        train(on_meta(stage), tmp_path, config)
    assert next(number) == 3


def test_such_a_run_fails_where_a_copy_to_the_device_waits(
    manifest: Manifest, tmp_path: Path, on_meta: Callable[[Stage], Stage]
) -> None:
    def copy(terms: Terms) -> Terms:
        return {**terms, "one": torch.ones(()).to(META)}

    config = settings()
    stage = with_terms(build_stage(StageKind.SUPERVISED, manifest, config, tmp_path), copy)
    with pytest.raises(WaitingError, match="from cpu to meta"):
        train(on_meta(stage), tmp_path, config)


def test_the_values_are_read_at_each_logged_step(
    manifest: Manifest, tmp_path: Path, on_meta: Callable[[Stage], Stage]
) -> None:
    config, steps = settings("machine.log_steps=2"), []
    stage = on_meta(build_stage(StageKind.SUPERVISED, manifest, config, tmp_path))
    with pytest.raises(NotImplementedError, match=NO_VALUES):
        train(watched(stage, steps.append), tmp_path, config)
    assert len(steps) == 2


def test_on_a_gpu_adam_itself_leaves_out_a_step_that_overflows() -> None:
    """Otherwise the scaler of float16 losses reads at each step whether it has to leave it out."""
    optim, gpu = settings().student.optim, torch.device("cuda")
    optimizer = Optimizer(nn.Linear(2, 2), optim, gpu, scales_loss=False)
    assert getattr(optimizer._adam, "_step_supports_amp_scaling", False)
