import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from loaders.loader import Batch
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.settings import Config, load_config
from tb.method import baselines
from tb.training.loop import train
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tb.workflow.run import run_stage


def slow_with_guesses(
    logits: Tensor, labels: Tensor, guesses: Tensor, answers: Tensor, threshold: float
) -> tuple[float, float]:
    """Cross entropies written out, one video at a time."""

    def cross_entropy(row: Tensor, label: int) -> float:
        return math.log(sum(math.exp(float(x)) for x in row)) - float(row[label])

    supervised = sum(cross_entropy(r, int(y)) for r, y in zip(logits, labels, strict=True))
    unsupervised = 0.0
    for guess, answer in zip(guesses, answers, strict=True):
        probs = [math.exp(float(x)) for x in guess]
        best = max(range(len(probs)), key=lambda k: probs[k])
        if probs[best] / sum(probs) >= threshold:
            unsupervised += cross_entropy(answer, best)
    return supervised / len(logits), unsupervised / len(guesses)


def test_guesses_count_from_the_threshold_on_and_get_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator)
    guesses, answers = torch.randn(2, 16, 5, generator=generator) * 2
    guesses.requires_grad_()
    answers.requires_grad_()
    labels = torch.tensor([0, 4, 2, 2])
    config = load_config("demo", ["baselines.threshold=0.6", "baselines.pseudo_label_weight=0.5"])
    terms = baselines.with_guesses(logits, labels, guesses, answers, config)
    supervised, unsupervised = slow_with_guesses(
        logits, labels, guesses.detach(), answers.detach(), 0.6
    )
    assert 0 < terms["confident"].item() < 1
    assert terms["L_sup"].item() == pytest.approx(supervised, abs=1e-5)
    assert terms["L_unsup"].item() == pytest.approx(unsupervised, abs=1e-5)
    assert terms["loss"].item() == pytest.approx(supervised + 0.5 * unsupervised, abs=1e-5)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    assert guesses.grad is None
    assert answers.grad is not None
    counts = answers.grad.abs().sum(1) > 0
    assert counts.float().mean().item() == pytest.approx(terms["confident"].item())


@pytest.mark.parametrize("kind", baselines.NAMES)
def test_a_baseline_trains_and_is_a_classifier(
    kind: str, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    path = run_stage(kind, manifest, config, tmp_path)
    state = load_checkpoint(path)
    assert path == tmp_path / kind / CHECKPOINT
    assert state["step"] == config.student.optim.steps
    assert state["classes"] == list(manifest.classes)


def test_fixmatch_sees_one_clip_twice_augmented_by_its_own_settings(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    plain = {"crop_scale": [1.0, 1.0], "num_erase": 0}
    settings = config.model_dump(mode="json")
    for name in ("weak", "strong"):
        settings["baselines"][name] = plain
    still = Config.model_validate(settings)
    stage = baselines.baseline_stage("fixmatch", manifest, still, tmp_path)
    with closing(stage.loaders[1].stream()) as stream:
        views = next(stream).views
    assert torch.equal(views["weak"], views["strong"])
    settings["baselines"]["strong"] = plain | {"grey_p": 1.0}
    grey = baselines.baseline_stage("fixmatch", manifest, Config.model_validate(settings), tmp_path)
    with closing(grey.loaders[1].stream()) as stream:
        other = next(stream).views
    assert torch.equal(other["weak"], views["weak"])
    assert (other["strong"][:, 0] - other["strong"][:, 1]).abs().max() < 1e-5


def test_unknown_names_are_refused(manifest: Manifest, config: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no stage 'mixmatch': choose one of"):
        run_stage("mixmatch", manifest, config, tmp_path)
    with pytest.raises(InputError, match="that folder is another stage's"):
        run_stage("fixmatch", manifest, config, tmp_path, name="student")
    with pytest.raises(InputError, match="use lower-case letters"):
        run_stage("fixmatch", manifest, config, tmp_path, name="../x")
    assert list(tmp_path.iterdir()) == []


def test_mean_teacher_is_the_running_mean_and_resumes_exactly(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    whole = run_stage("mean-teacher", manifest, config, tmp_path / "whole")
    state = load_checkpoint(whole)
    assert any(not torch.equal(state["model"][name], state["raw"][name]) for name in state["raw"])
    stage = baselines.baseline_stage("mean-teacher", manifest, config, tmp_path)
    stopped = replace(stage, loss=stopping_after(3, stage.loss))
    with pytest.raises(RuntimeError, match="enough"):
        train(stopped, tmp_path / "parts", config)
    assert load_checkpoint(tmp_path / "parts" / "mean-teacher" / CHECKPOINT)["step"] == 2
    parts = run_stage("mean-teacher", manifest, config, tmp_path / "parts")
    assert file_digest(parts) == file_digest(whole)


def stopping_after(
    num_calls: int, loss: Callable[[tuple[Batch, ...]], dict[str, Tensor]]
) -> Callable[[tuple[Batch, ...]], dict[str, Tensor]]:
    calls = iter(range(num_calls))

    def limited(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        if next(calls, None) is None:
            raise RuntimeError("enough")
        return loss(batches)

    return limited
