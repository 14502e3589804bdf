"""The clips that a classifier sees: what evaluation and prediction have in common.

A checkpoint records most of this, and its work folder the rest. An export has it in its metadata.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from loaders import ViewSpec
from loaders.plan import stage_views
from loaders.plan.normalization import Normalization
from shards.errors import InputError
from shards.files.path_kinds import is_file
from tb.config.differences import Tree
from tb.config.load_config import CONFIG, load_config
from tb.config.sections import Config, Evaluate
from tb.weights.checkpoint import CHECKPOINT


@dataclass(frozen=True, kw_only=True)
class ClassifierInput:
    """The clips of one video.

    Attributes:
        num_frames: Frames of a clip.
        stride: The step from one frame to the next, in frames; None for `stride_s`, or for clips
            over all the video.
        stride_s: The step in seconds; None for `stride`, or for clips over all the video.
        size_px: Height and width of a clip.
        num_clips: Clips, evenly from the first to the last frame.
        num_crops: Crops of each clip, 1 or 3.
        normalization: The clip's normalization; None leaves RGB in [0, 1].
    """

    num_frames: int
    stride: int | None
    stride_s: float | None
    size_px: int
    num_clips: int
    num_crops: int
    normalization: Normalization | None

    @classmethod
    def of(cls, config: Config) -> Self:
        """The input of the classifiers under these settings."""
        clips, evaluation = config.classify.clips, config.evaluation
        return cls(
            num_frames=clips.num_frames,
            stride=clips.stride,
            stride_s=clips.stride_s,
            size_px=clips.size_px,
            num_clips=evaluation.num_clips,
            num_crops=evaluation.num_crops,
            normalization=config.normalization,
        )

    @classmethod
    def of_checkpoint(cls, path: Path, settings: Tree) -> Self | None:
        """What a checkpoint was trained on, and how its work folder evaluates.

        Args:
            path: The checkpoint, WORK/STAGE/checkpoint.pt. Under another name, or without a
                WORK/config.yaml, the settings of the evaluation are the paper's.
            settings: The settings that its run depends on.

        Returns:
            None if the run does not say what it was trained on.
        """
        section = settings.get("classify", settings.get("pretrain"))
        if section is None:
            return None
        file = path.resolve().parent.parent / CONFIG
        is_in_work = path.stem.startswith(Path(CHECKPOINT).stem) and is_file(file)
        evaluation = load_config(str(file)).evaluation if is_in_work else Evaluate()
        clips = section["clips"]
        return cls(
            num_frames=clips["num_frames"],
            stride=clips["stride"],
            stride_s=clips["stride_s"],
            size_px=clips["size_px"],
            num_clips=evaluation.num_clips,
            num_crops=evaluation.num_crops,
            normalization=_normalization(settings.get("normalization")),
        )

    @classmethod
    def of_json(cls, text: str, path: Path) -> Self:
        """The input that `to_json` wrote.

        Args:
            text: What it wrote.
            path: The file that contains it, for the error.

        Raises:
            InputError: A value is missing, unknown or out of range.
        """
        try:
            tree = json.loads(text)
            found = cls(**{**tree, "normalization": _normalization(tree["normalization"])})
            found.views()
        except (ValueError, TypeError, KeyError, InputError) as error:
            raise InputError(
                f"{path}: not the input of a classifier: {text!r} ({error}); make the file with"
                " `tb export`"
            ) from error
        return found

    def to_json(self) -> str:
        """The input as a line of text."""
        return json.dumps(vars(self), default=vars, sort_keys=True)

    def with_clips(self, num_clips: int | None) -> Self:
        """The same with another number of clips; None changes nothing."""
        return self if num_clips is None else replace(self, num_clips=num_clips)

    def views(self) -> ViewSpec:
        """The views: one group, "clips", of shape (num_clips, num_crops)."""
        spec = stage_views.evaluation(
            num_frames=self.num_frames,
            stride=self.stride,
            stride_s=self.stride_s,
            size_px=self.size_px,
            num_clips=self.num_clips,
            num_crops=self.num_crops,
        )
        return replace(spec, normalization=self.normalization)


def _normalization(values: dict[str, Any] | None) -> Normalization | None:
    return None if values is None else Normalization(**values)
