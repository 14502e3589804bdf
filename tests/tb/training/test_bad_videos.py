"""Training goes on without bad videos: they do not count, are named, and too many end the run."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from loaders import Batch, LoaderError
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.cli import app
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.method.similarity_cache import SIMILARITY, cached_similarity, read_similarity
from tb.method.stages import build_stage
from tb.method.teachers import load_teachers
from tb.stage_kinds import SELF_SUPERVISED, StageKind
from tb.training.bad_videos import BAD_LIST, PartlyBad, read_bad_list, without_bad
from tb.training.loop import train
from tb.training.metrics import METRICS, read_metrics
from tb.training.stage import Stage
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tests.tb.commands import run_here
from tests.tb.conftest import QUICK
from tests.tb.damage import damaged_copy
from tests.tb.pair import finish, start_pair
from tests.tb.ranks import freeze_statistics, run_rank, train_all
from tests.tb.steps import StoppedError, stopping_at, terms_of
from tests.tb.training.test_distributed import check_alike

SKIP = ("machine.on_error=skip", "machine.max_bad_share=1", "machine.tensorboard=false")


def skipping(*more: str) -> Config:
    return load_config("demo", (*QUICK, *SKIP, *more))


def first_keys(stage: Stage) -> list[list[str]]:
    """The videos of the first batch of each stream."""
    return [
        [stage.loaders[0].manifest.keys[row] for row in next(loader.plans(0)).rows]
        for loader in stage.loaders
    ]


def good_rows(batch: Batch) -> Batch:
    """A batch of the good videos alone."""
    rows = batch.valid.nonzero().flatten()
    plan = replace(batch.plan, rows=batch.plan.rows[rows.numpy()])
    return Batch(
        views={name: view[rows] for name, view in batch.views.items()},
        labels=batch.labels[rows],
        keys=tuple(batch.keys[row] for row in rows.tolist()),
        valid=batch.valid[rows],
        bad=(),
        plan=plan,
        times=batch.times,
    )


def gradients(stage: Stage) -> list[Tensor]:
    found = [p.grad.clone() for p in stage.model.parameters() if p.grad is not None]
    stage.model.zero_grad()
    return found


@pytest.mark.parametrize("kind", StageKind)
def test_a_step_with_a_bad_video_is_the_step_without_it(
    manifest: Manifest, finished: Path, tmp_path: Path, kind: StageKind
) -> None:
    """Batch norm is frozen here, because it sees a copy of a good video in the bad one's place."""
    config = skipping("classify.dropout=0", "pretrain.optim.batch_size=3")
    keys = first_keys(build_stage(kind, manifest, config, finished))
    copy = damaged_copy(manifest, tmp_path / "shards", [stream[1] for stream in keys])
    stage = freeze_statistics(build_stage(kind, copy, config, finished))
    stage.model.eval()
    if stage.average is not None:
        stage.average.load_state_dict(stage.model.state_dict())
        stage.average.eval()
    batches = tuple(next(loader.stream()) for loader in stage.loaders)
    assert [batch.bad for batch in batches] == [(1,)] * len(batches)
    if kind in SELF_SUPERVISED:  # the sum of L_D1 is scaled by the size of the batch
        assert config.pretrain.pooled_reduction == "mean"
    wanted = terms_of(stage.step, tuple(good_rows(batch) for batch in batches))
    wanted["loss"].backward()  # type: ignore[no-untyped-call]
    alone = gradients(stage)

    filled = without_bad(batches)
    assert filled is not None
    for batch in filled:
        assert isinstance(batch, PartlyBad)
        assert all(view[1].any() for view in batch.views.values())  # not black
    found = terms_of(stage.step, filled)
    found["loss"].backward()  # type: ignore[no-untyped-call]
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert found[name].item() == pytest.approx(wanted[name].item(), rel=1e-5), name
    norm = torch.cat([x.flatten() for x in alone]).norm()
    assert norm > 0
    for one, other in zip(gradients(stage), alone, strict=True):
        assert (one - other).norm() <= 1e-4 * norm


def test_a_good_batch_stays_as_it_is(manifest: Manifest) -> None:
    stage = supervised_only_stage(manifest, skipping())
    batches = (next(stage.loaders[0].stream()),)
    found = without_bad(batches)
    assert found is not None
    assert found[0] is batches[0]


def test_skipping_changes_no_run_without_bad_videos(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    path = train(supervised_only_stage(manifest, skipping()), tmp_path, skipping())
    assert file_digest(path) == file_digest(finished / "supervised" / CHECKPOINT)
    assert all(row["num_bad"] == 0 for row in read_metrics(path.parent / METRICS))
    assert not (path.parent / BAD_LIST).exists()


def test_a_run_with_bad_videos_names_and_counts_them_and_resumes_exactly(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = skipping()
    (keys,) = first_keys(supervised_only_stage(manifest, config))
    copy = damaged_copy(manifest, tmp_path / "shards", keys[:2])
    whole = train(supervised_only_stage(copy, config), tmp_path / "whole", config)
    assert read_bad_list(whole.parent).keys() == set(keys[:2])
    rows = read_metrics(whole.parent / METRICS)
    assert rows[0]["num_bad"] == 2
    # Six steps of four videos show each of the twelve labelled videos twice.
    assert sum(row["num_bad"] for row in rows) == 4

    with pytest.raises(StoppedError):
        train(stopping_at(supervised_only_stage(copy, config), 3), tmp_path / "parts", config)
    parts = train(supervised_only_stage(copy, config), tmp_path / "parts", config)
    assert file_digest(parts) == file_digest(whole)
    lines = [json.loads(line) for line in (parts.parent / BAD_LIST).read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == sorted(keys[:2])
    assert all("in " in line["reason"] for line in lines)
    assert [row["num_bad"] for row in read_metrics(parts.parent / METRICS)] == [
        row["num_bad"] for row in rows
    ]
    shown = CliRunner().invoke(app, ["runs", "show", str(whole.parent)])
    assert "bad videos that were left out: 2" in shown.output


def test_a_run_that_ended_at_a_bad_video_goes_on_once_it_may_skip(
    manifest: Manifest, tmp_path: Path
) -> None:
    strict, lax = load_config("demo", (*QUICK, "machine.tensorboard=false")), skipping()
    plans = supervised_only_stage(manifest, strict).loaders[0].plans(0, 2)
    key = manifest.keys[next(plans).rows[0]]  # a video of the third step
    copy = damaged_copy(manifest, tmp_path / "shards", [key])
    with pytest.raises(LoaderError, match=f"{key} in "):
        train(supervised_only_stage(copy, strict), tmp_path / "work", strict)
    assert load_checkpoint(tmp_path / "work" / "supervised" / CHECKPOINT)["step"] == 2
    path = train(supervised_only_stage(copy, lax), tmp_path / "work", lax)
    assert load_checkpoint(path)["step"] == 6
    assert read_bad_list(path.parent).keys() == {key}


def test_too_many_bad_videos_end_the_run(manifest: Manifest, tmp_path: Path) -> None:
    config = skipping("machine.max_bad_share=0.1")
    (keys,) = first_keys(supervised_only_stage(manifest, config))
    copy = damaged_copy(manifest, tmp_path / "shards", keys[:2])
    with pytest.raises(LoaderError, match=r"2 bad videos in epoch 0, more than max_bad_share 0\.1"):
        train(supervised_only_stage(copy, config), tmp_path / "work", config)
    assert read_bad_list(tmp_path / "work" / "supervised").keys() == set(keys[:2])


def test_a_step_without_a_good_video_updates_nothing(manifest: Manifest, tmp_path: Path) -> None:
    config = skipping("student.optim.schedule=plateau", "student.optim.select=best")
    (keys,) = first_keys(supervised_only_stage(manifest, config))
    copy = damaged_copy(manifest, tmp_path / "shards", keys)
    path = train(supervised_only_stage(copy, config), tmp_path / "work", config)
    rows = read_metrics(path.parent / METRICS)
    assert [row["step"] for row in rows] == list(range(6))
    without_loss = [row["step"] for row in rows if "loss" not in row]
    assert without_loss
    assert all((row["num_bad"] == 4) == (row["step"] in without_loss) for row in rows)
    adam = load_checkpoint(path)["optimizer"]["state"]
    assert {int(state["step"]) for state in adam.values()} == {6 - len(without_loss)}
    assert CliRunner().invoke(app, ["runs", "ls", str(tmp_path / "work")]).exit_code == 0


def test_a_piece_without_a_good_video_leaves_out_the_gradient_of_the_others(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = skipping("student.optim.accumulate=2", "student.optim.steps=1")
    (loader,) = supervised_only_stage(manifest, config).loaders
    _, second = islice(loader.plans(0), 2)
    copy = damaged_copy(manifest, tmp_path / "shards", [manifest.keys[row] for row in second.rows])
    path = train(supervised_only_stage(copy, config), tmp_path / "work", config)
    (row,) = read_metrics(path.parent / METRICS)
    assert row.keys().isdisjoint({"loss", "grad_norm"})
    assert row["num_bad"] == len(second.rows)
    assert not load_checkpoint(path)["optimizer"]["state"]  # Adam has made no step


def test_validation_counts_the_good_videos(manifest: Manifest, tmp_path: Path) -> None:
    config = skipping("labels={percent: 100, validation: 0.5}")
    held_out = supervised_only_stage(manifest, config).validation_loader
    assert held_out is not None
    key = manifest.keys[held_out.rows[0]]
    copy = damaged_copy(manifest, tmp_path / "shards", [key])
    path = train(supervised_only_stage(copy, config), tmp_path / "work", config)
    (top1,) = {row["val_top1"] * (len(held_out.rows) - 1) for row in measured(path)[-1:]}
    assert top1 == pytest.approx(round(top1))
    assert read_bad_list(path.parent).keys() == {key}


def measured(path: Path) -> list[dict[str, float]]:
    return [row for row in read_metrics(path.parent / METRICS) if "val_top1" in row]


def test_a_video_without_a_score_has_both_teachers(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    work, config = tmp_path / "work", skipping("student.teachers=similarity")
    work.mkdir()
    for name in ("invariant", "distinctive", "finetune-invariant", "finetune-distinctive"):
        (work / name).symlink_to(finished / name)
    row = int(manifest.indices("train")[3])
    copy = damaged_copy(manifest, tmp_path / "shards", [manifest.keys[row]])
    with pytest.raises(InputError, match=manifest.keys[row]):
        cached_similarity(copy, load_config("demo", QUICK), work)
    scores = cached_similarity(copy, config, work)
    assert scores[row].isnan()
    weights = load_teachers(copy, config, work, torch.device("cpu")).invariant_weight
    assert weights[row] == 0.5
    others = manifest.indices("train") != row
    known = torch.from_numpy(manifest.indices("train")[others])
    assert torch.equal(weights[known], scores[known])
    # A file that lacks a score is of no use where none may be missing.
    whole = cached_similarity(manifest, load_config("demo", QUICK), work)
    assert not whole[manifest.indices("train")].isnan().any()
    again = read_similarity(work / SIMILARITY, manifest)
    torch.testing.assert_close(again, whole, equal_nan=True)


def test_a_limit_without_skipping_means_nothing() -> None:
    with pytest.raises(
        InputError, match=r"max_bad_share is 0\.5, but machine\.on_error is 'raise'"
    ):
        load_config("demo", ["machine.max_bad_share=0.5"])


@pytest.mark.slow
def test_two_processes_do_without_bad_videos_what_one_does(
    manifest: Manifest, finished: Path, tmp_path: Path
) -> None:
    streams = first_keys(build_stage(StageKind.FIXMATCH, manifest, skipping(), finished))
    copy = damaged_copy(manifest, tmp_path / "shards", [keys[0] for keys in streams])
    pair = start_pair(tmp_path, run_rank, copy.root, tmp_path / "two", *SKIP)
    train_all(copy, tmp_path / "one", *SKIP)
    for code, error in finish(pair):
        assert code == 0, error
    check_alike(tmp_path)
    for stage in ("tclr", "student", "supervised"):
        rows = read_metrics(tmp_path / "two" / stage / METRICS)
        assert sum(row["num_bad"] for row in rows) > 0
        assert all("loss" in row for row in rows)


@pytest.mark.slow
def test_a_process_without_a_good_video_makes_all_leave_the_step_out(
    manifest: Manifest, tmp_path: Path
) -> None:
    config = skipping()
    (keys,) = first_keys(supervised_only_stage(manifest, config))
    copy = damaged_copy(manifest, tmp_path / "shards", keys[2:])  # the second process's share
    words = ["train", "supervised", "--shards", str(copy.root)]
    words += ["--preset", "demo", "--out", str(tmp_path / "work")]
    words += [word for setting in (*QUICK, *SKIP) for word in ("--set", setting)]
    for code, error in finish(start_pair(tmp_path, run_here, *words)):
        assert code == 0, error
    rows = read_metrics(tmp_path / "work" / "supervised" / METRICS)
    assert [row["num_bad"] for row in rows[:1]] == [2]
    assert "loss" not in rows[0]
    assert "loss" in rows[1]
    assert read_bad_list(tmp_path / "work" / "supervised").keys() == set(keys[2:])


def test_a_loader_process_leaves_the_same_videos_out(manifest: Manifest, tmp_path: Path) -> None:
    config = skipping()
    (keys,) = first_keys(supervised_only_stage(manifest, config))
    copy = damaged_copy(manifest, tmp_path / "shards", keys[:2])
    paths = []
    for place in ("true", "false"):
        config = skipping(f"machine.in_process={place}")
        stage = supervised_only_stage(copy, config)
        paths.append(train(stage, tmp_path / place, config))
        assert read_bad_list(paths[-1].parent).keys() == set(keys[:2])
    assert file_digest(paths[0]) == file_digest(paths[1])
