"""The order of the stages, and the one that comes next in a work folder."""

import shutil
from pathlib import Path

import pytest
import torch

from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.stage_kinds import COMPARED, StageKind
from tb.weights.checkpoint import CHECKPOINT, load_checkpoint
from tb.workflow.needed_stages import needed_stages, next_stage


@pytest.mark.parametrize("init", ["scratch", "invariant", "tclr"])
@pytest.mark.parametrize("teachers", ["similarity", "distinctive"])
def test_a_stage_stands_after_all_that_it_needs(init: str, teachers: str) -> None:
    config = load_config(None, [f"student.init={init}", f"student.teachers={teachers}"])
    order = needed_stages(COMPARED, config)
    assert set(COMPARED) <= set(order)
    assert len(set(order)) == len(order)
    for place, kind in enumerate(order):
        needs = kind.needs(config.student.teachers, config.student.init)
        assert set(needs) <= set(order[:place])


def test_each_stage_comes_next_in_turn(finished: Path, config: Config, tmp_path: Path) -> None:
    order = needed_stages([StageKind.STUDENT], config)
    assert order[-1] is StageKind.STUDENT
    assert len(order) == 5
    for kind in order:
        assert next_stage(config, tmp_path) is kind
        shutil.copytree(finished / kind, tmp_path / kind)
    assert next_stage(config, tmp_path) is None


def test_a_stage_that_was_stopped_comes_next(
    finished: Path, config: Config, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(finished, work)
    path = work / StageKind.FINETUNE_DISTINCTIVE / CHECKPOINT
    state = load_checkpoint(path)
    state["step"] -= 1
    torch.save(state, path)
    assert next_stage(config, work) is None  # nothing is needed once the student is trained
    (work / StageKind.STUDENT / CHECKPOINT).unlink()
    assert next_stage(config, work) is StageKind.FINETUNE_DISTINCTIVE


def test_what_a_trained_stage_needed_is_not_asked_for(
    finished: Path, config: Config, tmp_path: Path
) -> None:
    """A teacher may have been fine-tuned from a file (--init)."""
    shutil.copytree(finished, tmp_path / "work")
    for kind in (StageKind.INVARIANT, StageKind.STUDENT):
        (tmp_path / "work" / kind / CHECKPOINT).unlink()
    assert next_stage(config, tmp_path / "work") is StageKind.STUDENT
