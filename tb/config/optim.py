"""The section `optim` of every stage: how many steps it has, and how they change the weights."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from shards.errors import InputError


class LrSchedule(StrEnum):
    """The learning rate after the warm-up."""

    PLATEAU = "plateau"
    COSINE = "cosine"
    CONSTANT = "constant"


class Select(StrEnum):
    """Which weights are a stage's result."""

    LAST = "last"
    BEST = "best"


class Optim(BaseModel):
    """The steps of one stage, and Adam's settings.

    An epoch's loss is the mean training loss, or the loss on the videos that `labels.validation`
    holds out.

    Attributes:
        steps: Steps of the stage.
        batch_size: Videos of one stream in a step, over all processes together.
        clips_per_video: How many windows of each video an epoch has, in every stream. More than 1
            is for long videos. The steps of an epoch grow by this factor, and "plateau" and "best"
            use these longer epochs.
        lr: The learning rate after the warm-up.
        weight_decay: Adam's weight decay.
        warmup_steps: Steps over which the rate rises linearly.
        schedule: The rate after the warm-up. "plateau" halves it when the loss stops falling,
            "cosine" lets it fall to zero at the last step, "constant" keeps it.
        patience: "plateau" halves the rate after so many looks without a lower loss.
        plateau_steps: "plateau" looks at the loss after whole epochs that have at least this many
            steps together. It takes their mean loss, because the mean of few steps is mostly noise.
        plateau_threshold: The share by which a loss must be below the lowest one so far to count as
            lower, in [0, 1).
        plateau_floor: The lowest rate of "plateau", as a share of `lr`, in (0, 1].
        accumulate: Pieces of a batch, which run one after the other. The gradient is the mean over
            the pieces, but batch norm and the losses that compare videos see one piece at a time.
        clip_norm: The largest norm of the gradient. Null: no limit.
        ema_decay: With a decay, the result is a running mean of the weights.
        select: Which weights are the result: those after the "last" step, or after the epoch with
            the lowest loss ("best").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    clips_per_video: int = Field(1, ge=1)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: LrSchedule = LrSchedule.PLATEAU
    patience: int = Field(5, ge=1)
    plateau_steps: int = Field(1000, ge=1)
    plateau_threshold: float = Field(1e-4, ge=0, lt=1)
    plateau_floor: float = Field(0.01, gt=0, le=1)
    accumulate: int = Field(1, ge=1)
    clip_norm: float | None = Field(None, gt=0)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    select: Select = Select.LAST

    def piece_size(self, num_processes: int) -> int:
        """The videos of one stream that a process takes at a time.

        Args:
            num_processes: The processes that share each step's videos.

        Raises:
            InputError: The batch does not divide by processes and pieces.
        """
        num_pieces = num_processes * self.accumulate
        if self.batch_size % num_pieces:
            raise InputError(
                f"optim.batch_size is {self.batch_size}, for {num_processes} process(es) and "
                f"{self.accumulate} accumulated piece(s): give a multiple of {num_pieces}"
            )
        return self.batch_size // num_pieces
