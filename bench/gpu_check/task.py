"""`Task`, the input of every step, and `CheckCell`, the part of a step that is measured at once."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from bench.gpu_check.findings import CellFigures
from bench.gpu_check.timetable import Duration
from loaders.engines.dali.nvdec import NvdecError, decoder_caps

# The recipes that DALI decodes on a GPU.
RECIPES = ("h264", "hevc", "vp9")


@dataclass(frozen=True, kw_only=True)
class CheckCell:
    """One figure, or a few that are measured together.

    Attributes:
        name: Its name in the findings.
        run: Returns the figures.
        is_long: Whether it is only in the long check.
    """

    name: str
    run: Callable[[], CellFigures]
    is_long: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """The input of a step.

    Attributes:
        device: A torch device; the CPU in a dry run.
        out: The folder of the check.
        videos: Folder of class folders with videos; None to make videos.
        duration: How much is measured.
        end_s: When the step should end, as `time.time()` gives it.
    """

    device: torch.device
    out: Path
    videos: Path | None
    duration: Duration
    end_s: float

    @property
    def is_dry(self) -> bool:
        """Whether this is a dry run, which shows only that every step runs."""
        return self.device.type == "cpu"

    @property
    def work(self) -> Path:
        """Scratch folder that the steps share."""
        return self.out / "work"

    @property
    def left_s(self) -> float:
        """Seconds until the step should end; negative if it is late."""
        return self.end_s - time.time()

    @property
    def decoded_recipe(self) -> str:
        """The recipe that DALI decodes on this device."""
        return "vp9" if self.is_dry else "h264"

    @cached_property
    def num_decoders(self) -> int:
        """Video decoders of the GPU; 1 if the driver does not say."""
        try:
            return max(1, decoder_caps(self.device, "h264").num_decoders)
        except NvdecError:
            return 1

    def findings(self, step: str) -> Path:
        """The file of what a step finds."""
        return self.out / "steps" / f"{step}.json"

    def shards(self, recipe: str) -> Path:
        """The folder of the videos stored with one recipe."""
        return self.work / "shards" / recipe


def num_cores() -> int:
    """The cores of this process."""
    return len(os.sched_getaffinity(0))
