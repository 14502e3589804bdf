"""Seconds per training step and videos per second of each stage, in variants.

A step is what `tb.training.loop` does with a batch: forward, loss, backward, Adam. The variant
"ours" is the default. Every other variant changes one thing, and "plain" changes all of them:
contiguous memory, one forward per view, no compiler, and on a GPU float16. Each round runs every
variant once, so other work on the machine affects all of them equally. Medians count; on a shared
machine only their ratios mean something. The batches are ready on the device. With --shards, the
variant "loader" gets them from the real loader.

Mean Teacher has no stage here. Its step is like the student's, with one teacher in place of two and
an update of that teacher's weights.

    python -m bench.train_step [--stages invariant student ...] [--backbone slow_r50] [--size 112]
        [--batch-size 4] [--rounds 5] [--device auto] [--shards DIR] [--json FILE]
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from bench.arguments import count, new_file, run_command, write_report
from bench.train_variants import Variant, peak_flops, variants
from loaders import open_loader
from loaders.devices import usable_device
from tb import losses
from tb.config.load_config import load_config
from tb.config.optim import Optim
from tb.config.sections import Config
from tb.method.pretraining import PretrainStep
from tb.method.streams import clip_views, pretrain_views
from tb.method.teachers import mix_teachers
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier, Embedder, to_channels_last
from tb.stage_kinds import SELF_SUPERVISED, StageKind
from tb.training.optimizer import Optimizer
from tb.training.precision import Precision
from tb.training.step import Step
from tb.training.step_values import StepValues

PRETRAIN = tuple(kind.value for kind in SELF_SUPERVISED)
STAGES = (*PRETRAIN, "finetune", "student")
NUM_CLASSES = 101
Batches = Iterator[tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A stage's settings, and the device that it runs on."""

    stage: str
    config: Config
    batch_size: int
    device: torch.device
    shards: Path | None

    @property
    def num_streams(self) -> int:
        """Batches of one step: the student learns from labelled and from unlabelled videos."""
        return 2 if self.stage == StageKind.STUDENT else 1

    @property
    def num_videos(self) -> int:
        """Videos of one step."""
        return self.batch_size * self.num_streams


class TimedStep:
    """One variant of one stage; call it to make a step.

    Attributes:
        model: The network that is trained.
        teachers: The student's teachers; none in other stages.
        variant: How it is computed.
        batches: What the next steps take; another source with the same shapes may take its place.
        seconds: The time of a step in each measurement.
        step_bytes: The peak of GPU memory in the last measurement, less what was allocated before.
    """

    def __init__(self, job: TrainingJob, variant: Variant, stack: ExitStack) -> None:
        torch.manual_seed(0)
        self._job, self.variant = job, variant
        self.model = self._network(Embedder if job.stage in PRETRAIN else _classifier)
        self.teachers = (
            [self._network(_classifier).eval().requires_grad_(False) for _ in range(2)]
            if job.stage == StageKind.STUDENT
            else []
        )
        optim = Optim(steps=1, batch_size=max(2, job.batch_size))
        precision = Precision(variant.amp)
        self._optimizer = Optimizer(
            self.model, optim, job.device, scales_loss=precision.scales_loss
        )
        if variant.compiled:
            for network in (self.model, *self.teachers):
                network.backbone.compile(dynamic=False)
        self._autocast = precision.autocast(job.device)
        self.batches = loaded(job, variant, stack) if variant.loader else synthetic(job, variant)
        self.seconds: list[float] = []
        self.step_bytes = 0

    def __call__(self) -> None:
        """Makes one step."""
        step = Step(
            values=StepValues(step=0, num_pieces=1),
            streams=[iter([batch]) for batch in next(self.batches)],
            optimizer=self._optimizer,
            rate=1e-4,
            progress=0.0,
            autocast=self._autocast,
        )
        self._take(step)

    def measure(self, num_steps: int) -> None:
        """Times some steps."""
        device = self._job.device
        idle_bytes = 0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            idle_bytes = torch.cuda.memory_allocated(device)
        began_s = time.perf_counter()
        for _ in range(num_steps):
            self()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            # The memory that was allocated before holds the weights of all variants.
            self.step_bytes = torch.cuda.max_memory_allocated(device) - idle_bytes
        self.seconds.append((time.perf_counter() - began_s) / num_steps)

    def num_flops(self) -> int:
        """Floating-point operations of one step."""
        with FlopCounterMode(display=False) as counter:
            self()
        return int(counter.get_total_flops())

    def _network(self, build: Callable[[nn.Module], nn.Module]) -> Any:
        model = build(build_backbone(self._job.config.backbone)).to(self._job.device)
        return to_channels_last(model) if self.variant.channels_last else model

    def _take(self, step: Step) -> None:
        job = self._job
        if job.stage in PRETRAIN and self.variant.together:
            kind, settings = StageKind(job.stage), job.config.pretrain
            PretrainStep(kind=kind, model=self.model, settings=settings)(step)
            return
        for batches in step.batches():
            with step.autocast:
                loss = self._loss(batches)
            step.backward({"loss": loss})
        step.update()

    def _loss(self, batches: tuple[Any, ...]) -> Tensor:
        job = self._job
        if job.stage in PRETRAIN:
            kind = StageKind(job.stage)
            return _loss_apart(kind, self.model, batches[0], job.config)
        clips = [batch.views["clip"] for batch in batches]
        if self.variant.together:
            clips = [torch.cat(clips)]
        logits = torch.cat([self.model(part) for part in clips]).float()
        labels = batches[0].labels.clamp_min(0)
        loss = functional.cross_entropy(logits[: len(labels)], labels)
        if not self.teachers:
            return loss
        with torch.no_grad():
            one, two = (
                torch.cat([net(part).float().softmax(-1) for part in clips])
                for net in self.teachers
            )
            target = mix_teachers(one, two, torch.full((len(one),), 0.5).to(one))
        return loss + losses.distillation_loss(logits, target)


def _classifier(backbone: nn.Module) -> Classifier:
    return Classifier(backbone, NUM_CLASSES)


def _loss_apart(kind: StageKind, model: Embedder, batch: Any, config: Config) -> Tensor:
    """The loss of `PretrainStep` from one forward per view, as the released code computes it."""
    temperature = config.pretrain.temperature
    short = torch.stack(
        [
            torch.stack([model(batch.views["short"][:, i, c]) for c in range(4)], dim=1)
            for i in range(2)
        ],
        dim=1,
    )
    features = [model.backbone(batch.views["long"][:, i]) for i in range(2)]
    terms = []
    with torch.autocast(short.device.type, enabled=False):
        if kind is not StageKind.DISTINCTIVE:
            long = torch.stack([model.pooled(part.float()) for part in features], dim=1)
            terms.append(losses.invariant_loss(long, short, temperature))
        if kind is not StageKind.INVARIANT:
            slices = torch.stack([model.slices(part.float()) for part in features], dim=1)
            terms.append(losses.distinctive_pooled_loss(short, temperature))
            terms.append(losses.distinctive_unpooled_loss(slices, short, temperature))
    return torch.stack(terms).sum()


def synthetic(job: TrainingJob, variant: Variant) -> Batches:
    """The same generated batch again and again, in the loader's memory layout or contiguous."""
    if job.stage in PRETRAIN:
        clips, groups = job.config.pretrain.clips, {"long": (2,), "short": (2, 4)}
    else:
        clips, groups = job.config.classify.clips, {"clip": ()}

    def group(shape: tuple[int, ...]) -> Tensor:
        size = (job.batch_size, *shape, clips.num_frames, clips.size_px, clips.size_px, 3)
        dtype = getattr(torch, Precision(variant.amp).loader_dtype)
        views = torch.rand(size, device=job.device).to(dtype).movedim(-1, -4)
        return views if variant.channels_last else views.contiguous()

    batch = SimpleNamespace(
        views={name: group(shape) for name, shape in groups.items()},
        labels=torch.arange(job.batch_size, device=job.device) % NUM_CLASSES,
        keys=tuple(map(str, range(job.batch_size))),
        bad=(),
        plan=SimpleNamespace(padded=np.zeros(job.batch_size, dtype=bool)),
    )
    while True:
        yield (batch,) * job.num_streams


def loaded(job: TrainingJob, variant: Variant, stack: ExitStack, engine: str = "auto") -> Batches:
    """The real loader's batches; the student's two streams come from two loaders."""
    pretraining = job.stage in PRETRAIN
    spec = (pretrain_views if pretraining else clip_views)(job.config)
    loaders = [
        open_loader(
            job.shards,
            spec,
            batch_size=job.batch_size,
            device=str(job.device),
            engine=engine,
            dtype=Precision(variant.amp).loader_dtype,
            seed=seed,
        )
        for seed in range(job.num_streams)
    ]
    streams = (stack.enter_context(closing(stack.enter_context(x).stream())) for x in loaders)
    return zip(*streams, strict=True)


def run_stage(
    job: TrainingJob, chosen: Sequence[Variant], rounds: int, steps: int
) -> list[dict[str, Any]]:
    """Rows of one stage's table."""
    with ExitStack() as stack:
        running, problems = [], {}
        for variant in chosen:
            try:
                step = TimedStep(job, variant, stack)
                step.measure(2)  # compiles, and allocates its memory
                step.seconds.clear()
                running.append(step)
            except (RuntimeError, NotImplementedError) as error:
                problems[variant.name] = str(error).splitlines()[0][:200]
            step = None
            gc.collect()  # also frees a variant that failed
            print(f"  {variant.name}: {problems.get(variant.name, 'ready')}", flush=True)
        for _ in range(rounds):
            for step in running:
                step.measure(steps)
    plain = next((step.seconds for step in running if step.variant.name == "plain"), None)
    operations, peak = num_flops(job, chosen[0]), peak_flops(job.device)
    rows = []
    for step in running:
        seconds = statistics.median(step.seconds)
        # Each round compares two steps that ran one after the other.
        ratios = plain and [a / b for a, b in zip(plain, step.seconds, strict=True)]
        rows.append(
            {
                "stage": job.stage,
                **asdict(step.variant),
                "step_s": seconds,
                "videos_per_s": job.num_videos / seconds,
                "speed_against_plain": statistics.median(ratios) if ratios else None,
                "teraflop_per_step": operations / 1e12,
                "mfu": operations / seconds / peak if peak else None,
                "step_memory_mb": step.step_bytes / 2**20 or None,
            }
        )
    return rows + [
        {"stage": job.stage, "name": name, "problem": text} for name, text in problems.items()
    ]


def num_flops(job: TrainingJob, variant: Variant) -> float:
    """Floating-point operations of one step, scaled up from a step of two videos.

    L_I's products of embeddings grow faster than the batch, but they are too few to matter.
    """
    small = replace(job, batch_size=2)
    with ExitStack() as stack:
        step = TimedStep(small, replace(variant, compiled=False), stack)
        return step.num_flops() * job.batch_size / small.batch_size


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures stage by stage, and writes the figures as it goes."""
    options = _parse(arguments)
    device = usable_device(options.device)
    on_gpu = device.type == "cuda"
    backbone = options.backbone or ("slow_r50" if on_gpu else "small")
    size_px, batch_size = options.size or (112 if on_gpu else 32), options.batch_size
    config = load_config(
        None,
        [
            f"backbone={backbone}",
            f"pretrain.clips.size_px={size_px}",
            f"classify.clips.size_px={size_px}",
            f"pretrain.optim.batch_size={max(2, batch_size)}",
        ],
    )
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "torch": torch.__version__,
        "num_threads": torch.get_num_threads(),
        "backbone": backbone,
        "size_px": size_px,
        "batch_size": batch_size,
        "rounds": options.rounds,
        "rows": [],
    }
    for stage in options.stages:
        print(stage, flush=True)
        job = TrainingJob(
            stage=stage,
            config=config,
            batch_size=batch_size,
            device=device,
            shards=options.shards,
        )
        chosen = variants(device, stage, shards=bool(options.shards), compiled=options.compiled)
        if options.variants:
            chosen = [x for x in chosen if x.name in ("ours", *options.variants)]
        rows = run_stage(job, chosen, options.rounds, options.steps)
        report["rows"] += rows
        print(_table(rows), flush=True)
        write_report(options.json, report)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stages", nargs="*", choices=STAGES, default=list(STAGES))
    parser.add_argument("--variants", nargs="*", help="in addition to ours; default: all")
    parser.add_argument("--backbone", help="default: slow_r50, on a CPU small")
    parser.add_argument("--size", type=count, help="pixels; default: 112, on a CPU 32")
    parser.add_argument("--batch-size", type=count, default=4, help="videos (the student: twice)")
    parser.add_argument("--rounds", type=count, default=5)
    parser.add_argument("--steps", type=count, default=3, help="per variant and round")
    parser.add_argument("--device", default=device)
    parser.add_argument("--compiled", action="store_true", help="on a CPU too: takes minutes")
    parser.add_argument("--shards", type=Path, help="the videos of the variant loader")
    parser.add_argument("--json", type=new_file)
    return parser.parse_args(arguments)


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'':16s} {'s/step':>8s} {'videos/s':>9s} {'x plain':>8s} {'MFU':>6s} {'MB':>7s}",
    ]
    for row in rows:
        if "problem" in row:
            lines.append(f"{row['name']:16s} {row['problem']}")
            continue
        mfu = "" if row["mfu"] is None else f"{row['mfu']:.1%}"
        memory = "" if row["step_memory_mb"] is None else f"{row['step_memory_mb']:.0f}"
        against = row["speed_against_plain"]
        lines.append(
            f"{row['name']:16s} {row['step_s']:8.3f} {row['videos_per_s']:9.1f}"
            f" {'' if against is None else f'{against:.2f}':>8s} {mfu:>6s} {memory:>7s}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
