"""The order in which stages run, and what happens when one fails."""

from pathlib import Path

import pytest

from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.load_config import dump_yaml, load_config
from tb.config.sections import Config
from tb.method.pretraining import pretrain_stage
from tb.stage_kinds import StageKind
from tb.training.loop import train
from tb.weights.checkpoint import CHECKPOINT
from tb.workflow.run import run_all, run_stage, runner
from tests.tb.steps import StoppedError, stopping_at
from tests.tb.workflow.fail_or_wait import fail_or_wait


def test_what_any_stage_lacks_is_found_out_before_the_first(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    for setting, message in (
        ("labels.percent=100", "no unlabelled videos"),
        ("evaluation.split=val", "no videos in split 'val'"),
        ("student.init=none.pt", r"none\.pt: no such checkpoint"),
        ("backbone=big", "no backbone 'big'"),
    ):
        path = tmp_path / "config.yaml"
        path.write_text(dump_yaml(config))
        with pytest.raises(InputError, match=message):
            run_all(manifest, load_config(str(path), [setting]), tmp_path / "work")
        assert not (tmp_path / "work").exists()


def test_a_failed_stage_ends_those_beside_it_and_starts_no_other(tmp_path: Path) -> None:
    calls = [(fail_or_wait, tmp_path / name) for name in ("slow", "bad", "late", "later")]
    with pytest.raises(InputError, match="bad luck"), runner(2) as run:
        run(calls)
    # The slow one was ended, or it would have left its file.
    assert list(tmp_path.iterdir()) == []


def test_a_finished_stage_is_not_repeated(
    manifest: Manifest, config: Config, finished: Path
) -> None:
    before = (finished / "student" / CHECKPOINT).stat().st_mtime_ns
    run_stage("student", manifest, config, finished)
    assert (finished / "student" / CHECKPOINT).stat().st_mtime_ns == before


def test_unfinished_and_missing_stages_are_refused(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no such checkpoint; train that stage first"):
        run_stage("finetune-invariant", manifest, config, tmp_path)
    stage = pretrain_stage(StageKind.INVARIANT, manifest, config)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 2), tmp_path, config)
    with pytest.raises(InputError, match="stopped at step 2 of 4; run that stage's command again"):
        run_stage("finetune-invariant", manifest, config, tmp_path)
