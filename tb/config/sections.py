"""Every setting with its default (the paper's) and its range: one class for each section."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from loaders import DaliViews, Part, Skip, Subset
from loaders.faults import OnError, skip_policy
from loaders.plan.normalization import Normalization, named_normalization
from loaders.plan.order import ShuffledOrder
from loaders.plan.stage_views import FINETUNE_AUGMENT, PRETRAIN_AUGMENT, WEAK_AUGMENT
from loaders.plan.views import MAX_STRIDE_S, Augment
from tb.config.optim import Optim
from tb.stage_kinds import FROM_SCRATCH, SELF_SUPERVISED, Distance, Reduction, TeacherWeights

BackboneSetting = str | dict[str, Any]
"""A backbone's name, or options of PyTorchVideo's `create_resnet` (`tb.networks.backbones`)."""


class Amp(StrEnum):
    """The number format of forward and backward passes."""

    AUTO = "auto"
    BF16 = "bf16"
    FP16 = "fp16"
    OFF = "off"


class Compile(StrEnum):
    """Whether torch.compile is used."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Labels(_Section):
    """Which videos are for training, and which of their labels may be used.

    Attributes:
        percent: The share of the labels, in (0, 100].
        seed: Seeds the choice of the labelled videos.
        file: A list of the labelled videos, as `tb split` makes one. It replaces `percent` and
            `seed`.
        with_hidden: Allow a student that reads the labels of unlabelled videos, for analysis only:
            `student.teachers` "oracle".
        validation: The share of the labelled videos that no classifier trains on, in [0, 1). With
            such videos, "plateau" and "best" use the loss on them.
        split: "train", or "pool" (HMDB51: all videos that are not for testing).
        split_number: The number of the official split, from 1.
    """

    percent: float = Field(20.0, gt=0, le=100)
    seed: int = Field(0, ge=0)
    file: str | None = None
    with_hidden: bool = False
    validation: float = Field(0.0, ge=0, lt=1)
    split: Literal["train", "pool"] = "train"
    split_number: int = Field(1, ge=1)

    def of_split(self, split: str) -> Subset:
        """All videos of a split."""
        return Subset(split=split, split_number=self.split_number)

    def subset(self, part: Part) -> Subset:
        """The training videos, or a part of them, without settings that mean nothing for it."""
        if part == Part.ALL:
            return self.of_split(self.split)
        percent = self.percent if self.file is None else 100.0
        validation = 0.0 if part == Part.UNLABELLED else self.validation
        return Subset(
            split=self.split,
            split_number=self.split_number,
            part=part,
            percent=percent,
            label_seed=self.seed if percent != 100 or validation else 0,
            label_list=self.file,
            validation=validation,
        )


class Clips(_Section):
    """The frames of one clip, and their augmentation.

    Attributes:
        num_frames: Frames of the clip.
        stride: The step from one frame of the clip to the next, in frames of the video.
        stride_s: The same step in seconds, in (0, 3600]; then `stride` is null. With both null, a
            classifier's clip spans the whole video.
        size_px: Height and width of the clip.
        augment: Ranges and probabilities of the augmentation.
    """

    num_frames: int = Field(ge=4)
    stride: int | None = Field(ge=1)
    stride_s: float | None = Field(None, gt=0, le=MAX_STRIDE_S, allow_inf_nan=False)
    size_px: int = Field(ge=16)
    augment: Augment

    def frame_settings(self) -> dict[str, Any]:
        """The settings that decide which frames a clip shows, and its size.

        A null `stride_s` is left out: digests of results include these settings, and a setting
        that is not used must not change a digest.
        """
        left_out = {"augment"} if self.stride_s is not None else {"augment", "stride_s"}
        return self.model_dump(mode="json", exclude=left_out)


class Pretrain(_Section):
    """Phase 1, for both self-supervised teachers.

    Attributes:
        clips: The short clips; the long clip spans them all.
        optim: Steps and optimizer.
        temperature: The temperature t of the contrastive losses.
        pooled_reduction: How L_D1 is reduced: "mean" over videos and anchors, "sum" over the videos
            of a batch and mean over anchors (released code), or "anchor-sum" over a video's anchors
            and mean over videos.
        num_queued: Videos of earlier batches that are further negatives of L_I. Each gives two
            negatives to an anchor. 0: only the other videos of the batch, as in the paper.
        mask_reflected: Leave videos whose window was extended by reflection out of L_D1 and L_D2,
            because their late clips show the early ones backwards.
    """

    clips: Clips = Clips(num_frames=16, stride=1, size_px=224, augment=PRETRAIN_AUGMENT)
    optim: Optim = Optim(
        steps=100_000, batch_size=40, warmup_steps=2_400, weight_decay=1e-9, patience=5
    )
    temperature: float = Field(0.1, gt=0)
    pooled_reduction: Reduction = Reduction.MEAN
    num_queued: int = Field(0, ge=0)
    mask_reflected: bool = False


class Classify(_Section):
    """Input of stages 2 to 4, and the dropout before their classifier.

    Attributes:
        clips: The clip.
        dropout: The share of the pooled feature that is set to 0 in training, for every backbone.
            The released code has none on r3d_18.
    """

    clips: Clips = Clips(num_frames=8, stride=2, size_px=224, augment=FINETUNE_AUGMENT)
    dropout: float = Field(0.5, ge=0, lt=1)


class Finetune(_Section):
    """Phase 2: a teacher on the labelled videos."""

    optim: Optim = Optim(steps=20_000, batch_size=16, warmup_steps=1_200)


class Student(_Section):
    """Phase 3.

    Attributes:
        optim: Steps and optimizer, for the baselines too. `batch_size` counts labelled videos; as
            many unlabelled ones come with them (none for the supervised-only baseline).
        init: What the backbone starts from: "scratch", "invariant", "distinctive", "tclr" or a
            file.
        teachers: How the two teachers are weighted. "similarity" uses each video's temporal
            similarity, as the paper does. "stretched" maps these scores linearly onto 0 to 1 over
            the training set. "calibrated" maps them by a rising function that is fitted on the
            labelled videos (`tb.method.calibration`). "equal" gives both the same weight.
            "invariant" and "distinctive" use one teacher alone. "oracle" uses the teacher that is
            better by the video's label, hidden labels included; it needs `labels.with_hidden`.
        omega: Weight of the distance to the teachers' mixture. The distance is a mean over labelled
            and unlabelled videos together. The released code takes two means over videos and
            classes: the factor is 50 for the labelled videos and 100 for the unlabelled ones. With
            K classes, our omega acts like a factor of K omega / 2 for both of these means.
        distance: The distance between the student and the mixture: "l2", "kl" or "js".
    """

    optim: Optim = Optim(steps=40_000, batch_size=16, warmup_steps=2_400)
    init: str = "tclr"
    teachers: TeacherWeights = TeacherWeights.SIMILARITY
    omega: float = Field(1.0, ge=0)
    distance: Distance = Distance.L2

    @property
    def init_file(self) -> Path | None:
        """The file that `init` names; None where it names a stage or "scratch"."""
        known = (FROM_SCRATCH, *SELF_SUPERVISED)
        return None if self.init in known else Path(self.init)


class Baselines(_Section):
    """The semi-supervised baselines. Steps, batches and start are the student's.

    Attributes:
        threshold: The confidence from which a prediction counts as a label (pseudo-label,
            FixMatch).
        pseudo_label_weight: Weight of the loss on these labels.
        weak: Augmentation of FixMatch's weak view.
        strong: Augmentation of FixMatch's strong view.
        consistency_weight: Mean Teacher's weight of sum_k (p - q)^2, after its ramp-up. 10 is the
            weight 100 of the released code, whose distance is a mean over 10 classes.
        rampup_share: Mean Teacher's weight rises in the first part of the steps. This is the share
            of that part, in [0, 1].
        ema_decay: Decay of the running mean of the weights, for Mean Teacher (during the ramp-up)
            and for registered methods that have such a mean.
        late_ema_decay: Mean Teacher's decay after the ramp-up.
    """

    threshold: float = Field(0.95, ge=0, le=1)
    pseudo_label_weight: float = Field(1.0, ge=0)
    weak: Augment = WEAK_AUGMENT
    strong: Augment = PRETRAIN_AUGMENT
    consistency_weight: float = Field(10.0, ge=0)
    # Tarvainen and Valpola ramp up over 40,000 of 150,000 steps.
    rampup_share: float = Field(4 / 15, ge=0, le=1)
    ema_decay: float = Field(0.99, gt=0, lt=1)
    late_ema_decay: float = Field(0.999, gt=0, lt=1)


class Evaluate(_Section):
    """Evaluation: which videos are predicted, and from which clips and crops."""

    split: Literal["train", "val", "test"] = "test"
    num_clips: int = Field(10, ge=1)
    num_crops: Literal[1, 3] = 1
    batch_size: int = Field(8, ge=1)


# YAML reads an unquoted on or off as a truth value.
_UNQUOTED = BeforeValidator(lambda x: {True: "on", False: "off"}[x] if isinstance(x, bool) else x)


class Machine(_Section):
    """How to run: device, precision, checkpoints, trackers.

    Only `seed`, `order`, `engine`, `dali_views`, `amp`, `compile`, `compile_mode`, `sync_bn` and
    `num_threads` can change a result. If videos are bad, `on_error` can too.

    Attributes:
        seed: Seeds networks, order and augmentation.
        order: How training videos are shuffled. "windowed" reads eight shards at a time, for remote
            or spinning storage.
        cache: Whether remote shards are copied to this machine. False (for remote shards only)
            requests just the bytes that are shown, and requests them again in each epoch.
        device: A torch device, or "auto".
        engine: The loader's engine, or "auto". A run keeps the engine that it began with.
        on_error: "raise" ends training at the first video that cannot be read or decoded. "skip"
            leaves such videos out of every loss, and lists them in WORK/STAGE/bad.jsonl.
        max_bad_share: With "skip": training ends when more than this share of the videos that a
            process takes in an epoch is bad, in [0, 1].
        num_workers: The loader's threads. Null: one for each core; the processes that torchrun
            starts on one machine share its cores.
        in_process: Whether the loader's threads run in the process that trains. False: they run in
            a loader process, where they do not slow down the training. Null: in a loader process
            when training, and otherwise as in `open_loader`.
        lookahead_mb: The memory that a loader's batches in work may take, MiB; at least two batches
            are in work. Not for the engine dali. Null: the default of `open_loader`.
        max_kept_batches: How many batches a training stream may keep in the memory that it shares
            with the loader process; further batches are copied. Not for the engine dali. Null:
            the default of `open_loader`.
        num_threads: Torch's own threads on the CPU. Null: torch's default.
        tune: Lets the DALI engine try a few layouts before a stage. With engine "auto", dali in its
            usual layout is first compared with fused. If fused is chosen, no layout is tried.
        gpu_memory_mb: The GPU memory that these layouts may take, MiB.
        dali_views: What makes the views in the DALI engine: "operators", or "kernel". They round
            differently. Null: what the run began with; a new run takes operators, or with `tune`
            the faster of both.
        amp: "auto" is bfloat16 on GPUs that have it, float16 on older ones, off on the CPU.
        compile: Whether torch.compile is used; "auto" is on for GPUs.
        compile_mode: The mode of torch.compile. "reduce-overhead" and "max-autotune" capture CUDA
            graphs, which the engine dali does not allow.
        activation_checkpointing: Recompute activations in the backward pass, to save memory.
        sync_bn: Whether batch norm takes its statistics over all processes (GPUs only).
        log_steps: Steps after which the losses are copied from the device; this also happens
            before a checkpoint. It changes no number. A small value makes a GPU wait more often.
        checkpoint_steps: Steps between checkpoints.
        keep_last: How many checkpoints stay; with more than one they have numbered names too.
        tensorboard: Whether to write TensorBoard's files.
        wandb: A project of Weights & Biases. Null: none.
    """

    seed: int = Field(0, ge=0)
    order: ShuffledOrder = "global"
    cache: bool = True
    device: str = "auto"
    engine: str = "auto"
    on_error: OnError = "raise"
    max_bad_share: float = Field(Skip().max_bad_share, ge=0, le=1)
    num_workers: int | None = Field(None, ge=1)
    in_process: bool | None = None
    lookahead_mb: int | None = Field(None, ge=1)
    max_kept_batches: int | None = Field(None, ge=1)
    num_threads: int | None = Field(None, ge=1)
    tune: bool = False
    gpu_memory_mb: float | None = Field(None, gt=0)
    dali_views: DaliViews | None = None
    amp: Annotated[Amp, _UNQUOTED] = Amp.AUTO
    compile: Annotated[Compile, _UNQUOTED] = Compile.AUTO
    compile_mode: Literal[
        "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"
    ] = "default"
    activation_checkpointing: bool = False
    sync_bn: bool = False
    log_steps: int = Field(10, ge=1)
    checkpoint_steps: int = Field(100, ge=1)
    keep_last: int = Field(1, ge=1)
    tensorboard: bool = True
    wandb: str | None = None

    @property
    def may_skip(self) -> bool:
        """Whether training leaves bad videos out."""
        return skip_policy(self.on_error) is not None

    @property
    def fault_policy(self) -> Literal["raise"] | Skip:
        """What training's loaders do with bad videos."""
        return Skip(max_bad_share=self.max_bad_share) if self.may_skip else "raise"

    def limit_threads(self) -> None:
        """Sets torch's number of threads in this process to `num_threads`, if that is given."""
        if self.num_threads is not None:
            import torch

            torch.set_num_threads(self.num_threads)


_NAMED = BeforeValidator(named_normalization)


class Config(_Section):
    """All settings; each stage reads its part.

    Attributes:
        backbone: The backbone of every stage's network.
        normalization: The last step of every clip of every stage: "kinetics", "pytorchvideo",
            "imagenet", "none" (RGB in [0, 1]), or {mean: [R, G, B], std: [R, G, B]}.
        augmentation: The qualified name of a registered augmentation, which is the last step of
            every training clip. Null: none.
    """

    backbone: BackboneSetting = "slow_r50"
    normalization: Annotated[Normalization | None, _NAMED] = None
    augmentation: str | None = None
    labels: Labels = Labels()
    pretrain: Pretrain = Pretrain()
    classify: Classify = Classify()
    finetune: Finetune = Finetune()
    student: Student = Student()
    baselines: Baselines = Baselines()
    evaluation: Evaluate = Evaluate()
    machine: Machine = Machine()

    def input_settings(self) -> dict[str, Any]:
        """The settings outside `clips` on which results depend.

        A null normalization is left out: digests of results include these settings, and a setting
        that is not used must not change a digest.
        """
        found = self.model_dump(mode="json", include={"normalization"})
        return {} if self.normalization is None else found
