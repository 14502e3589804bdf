"""What every step of `bench.gpu_check` is given, and what it gives back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

RECIPES = ("h264", "hevc", "vp9", "mjpeg")
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a step is given.

    Attributes:
        device: A torch device; the CPU in a dry run.
        work: Scratch folder, shared by the steps; the first one puts the shards there.
        videos: Folder of class folders with videos, or None to make some.
        out: Where the step's findings go.
        end_s: Of `time.time()`, when the step should be over.
    """

    device: torch.device
    work: Path
    videos: Path | None
    out: Path
    end_s: float

    @property
    def is_dry(self) -> bool:
        """Whether this shows only that every step runs."""
        return self.device.type == "cpu"

    def shards(self, recipe: str) -> Path:
        """The videos in one recipe."""
        return self.work / "shards" / recipe

    def save(self, found: Found) -> None:
        """Writes what has been found so far."""
        partial = self.out.with_suffix(".part")
        partial.write_text(json.dumps(found, indent=2) + "\n")
        partial.replace(self.out)
