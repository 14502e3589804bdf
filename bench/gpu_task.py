"""`Task`: the input of every step of `bench.gpu_check`, and where its findings go."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# The recipes that DALI decodes on a GPU.
RECIPES = ("h264", "hevc", "vp9")
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """The input of a step.

    Attributes:
        device: A torch device; the CPU in a dry run.
        work: Scratch folder that the steps share.
        videos: Folder of class folders with videos; None to make videos.
        out: Where the step's findings go.
        end_s: When the step should end, as `time.time()` gives it.
    """

    device: torch.device
    work: Path
    videos: Path | None
    out: Path
    end_s: float

    @property
    def is_dry(self) -> bool:
        """Whether this is a dry run, which shows only that every step runs."""
        return self.device.type == "cpu"

    def shards(self, recipe: str) -> Path:
        """The folder of the videos stored with one recipe."""
        return self.work / "shards" / recipe

    def save(self, found: Found) -> None:
        """Writes what has been found so far."""
        partial = self.out.with_suffix(".part")
        partial.write_text(json.dumps(found, indent=2) + "\n")
        partial.replace(self.out)
