"""Phase 1, self-supervised: the two teachers and TCLR, from views of all training videos.

A user's own self-supervised loss gets a stage of this kind too.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from loaders import Batch, Part
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb import losses
from tb.config.sections import Config, Pretrain
from tb.method.own_loss import OwnLoss
from tb.method.run_settings import run_settings
from tb.method.streams import Stream, open_stream, pretrain_views
from tb.method.video_queue import VideoQueue
from tb.networks.backbones import build_backbone
from tb.networks.heads import Embedder, to_channels_last
from tb.stage_kinds import Reduction, StageKind
from tb.training.bad_videos import weights_of
from tb.training.distributed import gather, mean
from tb.training.stage import Stage, TakeStep
from tb.training.step import Step
from tb.training.step_values import Terms


@dataclass(frozen=True, kw_only=True)
class PretrainStep:
    """A step under L_I ("invariant"), L_D1 + L_D2 ("distinctive"), or all three ("tclr").

    Attributes:
        kind: The stage, which decides the terms.
        model: The teacher in training.
        settings: The section `pretrain`.
        queue: Further negatives of L_I. None: only the other videos of the batch.
    """

    kind: StageKind
    model: Embedder
    settings: Pretrain
    queue: VideoQueue | None = None

    def __call__(self, step: Step) -> None:
        """A whole step on all training videos."""
        for (batch,) in step.batches():
            short_clips, long_clips = batch.views["short"], batch.views["long"]
            # The losses need float32: at a temperature of 0.1 a logit in bfloat16 is off by 0.03.
            in_float32 = torch.autocast(short_clips.device.type, enabled=False)
            terms: Terms = {}
            with step.autocast:
                # Each kind of view has one forward pass: batch norm sees all of a kind together.
                short = self.model(short_clips.flatten(0, 2)).view(*short_clips.shape[:3], -1)
                features = self.model.backbone(long_clips.flatten(0, 1))
                # Only what a loss needs goes through the head, because the head's batch norm takes
                # all its inputs into its statistics.
                if self.kind is not StageKind.DISTINCTIVE:
                    long = self.model.pooled(features).view(*long_clips.shape[:2], -1)
                    with in_float32:
                        terms["L_I"] = self._invariant_loss(batch, long, short)
                if self.kind is not StageKind.INVARIANT:
                    slices = self.model.slices(features)
                    slices = slices.view(*long_clips.shape[:2], *slices.shape[1:])
                    with in_float32:
                        terms |= self._distinctive_losses(batch, slices, short)
                loss = torch.stack(list(terms.values())).sum()
            step.backward({"loss": loss, **terms})
        step.update()

    def _invariant_loss(self, batch: Batch, long: Tensor, short: Tensor) -> Tensor:
        """L_I. The negatives are the other videos of all processes and the queue's videos."""
        long, short, weights = gather(long), gather(short), weights_of(batch)
        weights = None if weights is None else gather(weights)
        temperature, videos = self.settings.temperature, self._videos(batch)
        if self.queue is None:
            return losses.invariant_loss(long, short, temperature, weights, videos)
        rows = batch.plan.rows.copy()
        rows[list(batch.bad)] = -1
        all_rows = gather(torch.from_numpy(rows).to(long.device, non_blocking=True))
        earlier = self.queue.negatives(all_rows)
        self.queue.push(all_rows, long, short)
        return losses.invariant_loss(long, short, temperature, weights, videos, earlier)

    def _distinctive_losses(self, batch: Batch, slices: Tensor, short: Tensor) -> Terms:
        """L_D1 and L_D2, which compare each video only with itself."""
        temperature, reduction = self.settings.temperature, self.settings.pooled_reduction
        weights = without_reflected(batch) if self.settings.mask_reflected else weights_of(batch)
        pooled = losses.distinctive_pooled_loss(short, temperature, reduction, weights)
        if reduction is Reduction.SUM:
            # The sum is over the whole batch, and this may be one piece of it.
            pooled = pooled * (self.settings.optim.batch_size / len(batch.keys))
        unpooled = losses.distinctive_unpooled_loss(slices, short, temperature, weights)
        return {"L_D1": pooled, "L_D2": unpooled}

    def _videos(self, batch: Batch) -> Tensor | None:
        """The manifest rows of all processes' videos; None with one clip per video.

        L_I needs the rows because a batch may have several clips of one video. With one clip per
        video, a video comes twice only where two epochs meet. The two are then negatives of each
        other.
        """
        if self.settings.optim.clips_per_video == 1:
            return None
        rows = torch.from_numpy(batch.plan.rows)
        return gather(rows.to(batch.labels.device, non_blocking=True))


def without_reflected(batch: Batch) -> Tensor | None:
    """The weights that L_D1 and L_D2 give the videos under `pretrain.mask_reflected`.

    A window that is extended by reflection shows early moments again, backwards. The order of such
    clips says nothing about the video, so the losses should not tell them apart. All processes call
    this together.

    Returns:
        (B,) float32 as in `tb.losses`: 0 for a bad video and for a video whose window was
        reflected. All 0 if every video of every process is such a video. None if there is none.
    """
    counted = ~batch.plan.padded
    counted[list(batch.bad)] = False
    num_videos = len(counted)
    # The numbers stay on the CPU, so that no process has to wait for its GPU.
    num_counted = mean(torch.tensor(counted.sum(), dtype=torch.float64)).item()
    if num_counted == num_videos:
        return None
    weights = torch.from_numpy(counted).float() * (num_videos / num_counted if num_counted else 0.0)
    return weights.to(batch.labels.device, non_blocking=True)


@dataclass(frozen=True, kw_only=True)
class PretrainingLoss(OwnLoss):
    """The loss of a user's own self-supervised stage.

    Attributes:
        model: The network in training: clips (N, 3, T, H, W) to embeddings (N, 128) of unit length.
        settings: The section `pretrain`.
    """

    model: Embedder
    settings: Pretrain

    @abstractmethod
    def terms(self, batch: Batch) -> Terms:
        """The terms of a batch with the views "long" (B, 2, ...) and "short" (B, 2, 4, ...).

        Returns:
            Named scalars: "loss", whose gradient is taken, and others for the log.
        """


def pretrain_stage(kind: StageKind, manifest: Manifest, config: Config) -> Stage:
    """A stage of `tb.stage_kinds.SELF_SUPERVISED`.

    Raises:
        InputError: There are fewer training videos than a batch takes.
    """
    model = _new_embedder(manifest, config)
    num_queued = 0 if kind is StageKind.DISTINCTIVE else config.pretrain.num_queued
    queue = VideoQueue(num_queued) if num_queued else None
    step = PretrainStep(kind=kind, model=model, settings=config.pretrain, queue=queue)
    return _stage(kind.value, model, step, manifest, config, memory=queue)


def own_pretraining_stage(
    kind: str, method: type[PretrainingLoss], manifest: Manifest, config: Config
) -> Stage:
    """The stage of a registered loss.

    Args:
        kind: Its registered name, which the checkpoint records.
        method: The loss.
        manifest: The data set.
        config: All settings.

    Raises:
        InputError: There are fewer training videos than a batch takes.
    """
    model = _new_embedder(manifest, config)
    step = method(model=model, settings=config.pretrain).step
    return _stage(kind, model, step, manifest, config, pretraining=kind)


def _new_embedder(manifest: Manifest, config: Config) -> Embedder:
    optim = config.pretrain.optim
    num_videos = len(config.labels.subset(Part.ALL).rows(manifest))
    if num_videos < optim.batch_size:
        smaller = f"--set pretrain.optim.batch_size={max(2, num_videos // 2)}"
        raise InputError(
            f"{num_videos} training videos, but pretrain.optim.batch_size is "
            f"{optim.batch_size}: a batch would be full of repeats; "
            f"{smaller if num_videos > 1 else 'this stage compares videos, so give more'}"
        )
    torch.manual_seed(config.machine.seed)
    return to_channels_last(Embedder(build_backbone(config.backbone)))


def _stage(
    name: str,
    model: Embedder,
    step: TakeStep,
    manifest: Manifest,
    config: Config,
    memory: VideoQueue | None = None,
    **own_settings: object,
) -> Stage:
    optim, stream = config.pretrain.optim, Stream(part=Part.ALL, spec=pretrain_views(config))
    section = config.pretrain.model_dump(mode="json")
    return Stage(
        name=name,
        model=model,
        classes=[],
        optim=optim,
        loaders=(open_stream(stream, manifest, config, optim),),
        step=step,
        memory=memory,
        settings=run_settings(config, manifest, pretrain=section, **own_settings),
    )
