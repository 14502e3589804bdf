"""Fixtures for tests of the cells of the check."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.gpu_check import videos
from bench.gpu_check.task import Task
from bench.gpu_check.timetable import Duration
from tests.made_once import made_once


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A dry run whose videos are stored; HEVC takes long, and no cell here reads it."""
    task = Task(
        device=torch.device("cpu"),
        out=Path(),
        videos=None,
        duration=Duration.SHORT,
        end_s=float("inf"),
    )

    def make(out: Path) -> None:
        for cell in videos.cells(replace(task, out=out)):
            if cell.name != "hevc":
                cell.run()

    return replace(task, out=made_once(tmp_path_factory, "gpu-check", make))
