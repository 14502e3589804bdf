import math
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from loaders import Batch
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb import losses
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import FixMatch, MeanTeacher, PseudoLabel, baseline_stage
from tb.networks.backbones import build_backbone
from tb.networks.heads import Classifier
from tb.stage_kinds import BASELINES, StageKind
from tb.training.loop import train
from tb.training.metrics import METRICS, read_metrics
from tb.training.optimizer import Optimizer
from tb.training.step import Step
from tb.training.step_values import StepValues
from tb.weights.checkpoint import CHECKPOINT, file_digest, load_checkpoint
from tb.workflow.run import run_stage
from tests.tb.conftest import QUICK
from tests.tb.steps import StoppedError, stopping_at, terms_of


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


class Given(Classifier):
    """A network with one given answer for each clip; a clip's pixels are its number."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(build_backbone("small"), logits.shape[1])
        self.given = logits

    def forward(self, clips: Tensor) -> Tensor:
        return self.given[clips[:, 0, 0, 0, 0].long()]


def numbered_batches(labels: Tensor, num_unlabelled: int) -> tuple[Batch, Batch]:
    """Labelled clips, then weak views, then strong views, numbered from 0 on.

    The view "clip" of an unlabelled video is its weak view.
    """
    num_labelled = len(labels)

    def clips(first: int, number: int) -> Tensor:
        return torch.arange(first, first + number).float().view(-1, 1, 1, 1, 1)

    labelled = SimpleNamespace(
        views={"clip": clips(0, num_labelled)}, labels=labels, keys=[""] * num_labelled
    )
    unlabelled = SimpleNamespace(
        views={
            "clip": clips(num_labelled, num_unlabelled),
            "weak": clips(num_labelled, num_unlabelled),
            "strong": clips(num_labelled + num_unlabelled, num_unlabelled),
        },
        keys=[""] * num_unlabelled,
    )
    return labelled, unlabelled  # type: ignore[return-value]


def fixmatch_terms(
    logits: Tensor, labels: Tensor, guesses: Tensor, answers: Tensor, config: Config
) -> dict[str, Tensor]:
    """FixMatch's loss for given logits of labelled clips, weak views and strong views."""
    method = FixMatch(model=Given(torch.cat([logits, guesses, answers])), settings=config.baselines)
    return terms_of(method.step, numbered_batches(labels, len(guesses)))


def test_pseudo_labels_are_its_own_confident_answers() -> None:
    """There are as many unlabelled clips as labelled ones, so every shape fits where they swap."""
    generator = torch.Generator().manual_seed(0)
    logits, guesses = torch.randn(2, 6, 5, generator=generator) * 2
    labels = torch.tensor([0, 4, 2, 2, 1, 3])
    config = load_config("demo", ["baselines.threshold=0.6", "baselines.pseudo_label_weight=0.5"])
    method = PseudoLabel(model=Given(torch.cat([logits, guesses])), settings=config.baselines)
    terms = terms_of(method.step, numbered_batches(labels, 6))
    supervised, unsupervised = slow_with_guesses(logits, labels, guesses, guesses, 0.6)
    assert 0 < terms["confident"].item() < 1
    assert terms["L_sup"].item() == pytest.approx(supervised, abs=1e-5)
    assert terms["L_unsup"].item() == pytest.approx(unsupervised, abs=1e-5)
    assert terms["loss"].item() == pytest.approx(supervised + 0.5 * unsupervised, abs=1e-5)


def test_mean_teacher_agrees_with_the_average_on_the_other_view() -> None:
    generator = torch.Generator().manual_seed(0)
    network, average = torch.randn(2, 4 + 6 + 6, 5, generator=generator)
    labels = torch.tensor([0, 4, 2, 2])
    config = load_config("demo", ["baselines.consistency_weight=0.5"])
    method = MeanTeacher(model=Given(network), settings=config.baselines, average=Given(average))
    terms = terms_of(method.step, numbered_batches(labels, 6))
    weak, strong = average[4:10].softmax(-1), network[10:].softmax(-1)
    distance = sum(((p - q) ** 2).sum().item() for p, q in zip(weak, strong, strict=True)) / 6
    supervised = -network[:4].log_softmax(-1)[range(4), labels].mean().item()
    assert terms["L_unsup"].item() == pytest.approx(distance, abs=1e-5)
    assert terms["L_sup"].item() == pytest.approx(supervised, abs=1e-5)
    assert terms["loss"].item() == pytest.approx(supervised + 0.5 * distance, abs=1e-5)


@pytest.mark.parametrize("number", [10_000, 25_000, 39_999, 40_000, 149_999])
def test_mean_teacher_ramps_its_weight_up_and_forgets_faster_until_then(number: int) -> None:
    start = torch.randn(4 + 6 + 6, 5, generator=torch.Generator().manual_seed(0))
    network, average = (Given(nn.Parameter(start.clone())) for _ in range(2))
    config = load_config("demo", ["baselines.consistency_weight=3"])
    optim = config.student.optim.model_copy(update={"ema_decay": 0.5})
    device = torch.device("cpu")
    step = Step(
        values=StepValues(step=number, num_pieces=1),
        streams=(),
        optimizer=Optimizer(network, optim, device, scales_loss=False, average=average),
        rate=1.0,
        progress=number / 150_000,
        autocast=torch.autocast("cpu", enabled=False),
    )
    batches = numbered_batches(torch.tensor([0, 4, 2, 2]), 6)
    step.batches = lambda: iter([batches])  # type: ignore[method-assign]
    MeanTeacher(model=network, settings=config.baselines, average=average).step(step)
    t = min(number / 40_000, 1)
    assert weight_in(step.values.terms) == pytest.approx(3 * math.exp(-5 * (1 - t) ** 2), rel=1e-3)
    decay = 0.99 if number < 40_000 else 0.999
    assert (network.given - start).abs().max() > 0.9
    mean = decay * start + (1 - decay) * network.given
    assert torch.allclose(average.given, mean, rtol=0, atol=1e-5)


def weight_in(terms: Mapping[str, Tensor | float]) -> float:
    """The weight that the loss has given to the distance."""
    return float((terms["loss"] - terms["L_sup"]) / terms["L_unsup"])


def test_guesses_count_from_the_threshold_on_and_get_no_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator)
    guesses, answers = torch.randn(2, 16, 5, generator=generator) * 2
    guesses.requires_grad_()
    answers.requires_grad_()
    labels = torch.tensor([0, 4, 2, 2])
    config = load_config("demo", ["baselines.threshold=0.6", "baselines.pseudo_label_weight=0.5"])
    terms = fixmatch_terms(logits, labels, guesses.detach(), answers.detach(), config)
    supervised, unsupervised = slow_with_guesses(
        logits, labels, guesses.detach(), answers.detach(), 0.6
    )
    assert 0 < terms["confident"].item() < 1
    assert terms["L_sup"].item() == pytest.approx(supervised, abs=1e-5)
    assert terms["L_unsup"].item() == pytest.approx(unsupervised, abs=1e-5)
    assert terms["loss"].item() == pytest.approx(supervised + 0.5 * unsupervised, abs=1e-5)
    loss, confident = losses.pseudo_label_loss(answers, guesses, 0.6)
    assert loss.item() == terms["L_unsup"].item()
    assert confident.item() == terms["confident"].item()
    loss.backward()  # type: ignore[no-untyped-call]
    assert guesses.grad is None
    assert answers.grad is not None
    counts = answers.grad.abs().sum(1) > 0
    assert counts.float().mean().item() == pytest.approx(terms["confident"].item())


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_trains_and_is_a_classifier(
    kind: str, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    path = run_stage(kind, manifest, config, tmp_path)
    state = load_checkpoint(path)
    assert path == tmp_path / kind / CHECKPOINT
    assert state["step"] == config.student.optim.steps
    assert state["classes"] == list(manifest.classes)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_trains_in_bfloat16(kind: str, manifest: Manifest, tmp_path: Path) -> None:
    """The clips come in float16, and on a CPU autocast to bfloat16 does not join these."""
    config = load_config("demo", (*QUICK, "machine.amp=bf16", "student.optim.steps=1"))
    (row,) = read_metrics(run_stage(kind, manifest, config, tmp_path).parent / METRICS)
    assert math.isfinite(row["loss"])


@pytest.mark.parametrize(
    ("kind", "num_clips"),
    [(StageKind.PSEUDO_LABEL, 4 + 4), (StageKind.FIXMATCH, 4 + 4 + 4), (StageKind.MEAN_TEACHER, 8)],
)
def test_batch_norm_sees_labelled_and_unlabelled_clips_together(
    kind: StageKind, num_clips: int, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    stage = baseline_stage(kind, manifest, config, tmp_path)
    norm = next(layer for layer in stage.model.modules() if isinstance(layer, nn.BatchNorm3d))
    seen: list[tuple[int, bool]] = []
    norm.register_forward_pre_hook(lambda _, given: seen.append((len(given[0]), norm.training)))
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 2), tmp_path, config)
    assert seen == [(num_clips, True)] * 2


def test_fixmatch_sees_one_clip_twice_augmented_by_its_own_settings(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    plain = {"crop_scale": [1.0, 1.0], "num_erase": 0}
    settings = config.model_dump(mode="json")
    for name in ("weak", "strong"):
        settings["baselines"][name] = plain
    still = Config.model_validate(settings)
    stage = baseline_stage(StageKind.FIXMATCH, manifest, still, tmp_path)
    with closing(stage.loaders[1].stream()) as stream:
        views = next(stream).views
    assert torch.equal(views["weak"], views["strong"])
    settings["baselines"]["strong"] = plain | {"grey_p": 1.0}
    grey = baseline_stage(StageKind.FIXMATCH, manifest, Config.model_validate(settings), tmp_path)
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
    steps = config.student.optim.steps
    ramps = [math.exp(-5 * max(1 - number / (steps * 4 / 15), 0) ** 2) for number in range(steps)]
    weights = [weight_in(row) for row in read_metrics(whole.parent / METRICS)]
    assert weights == pytest.approx([10 * ramp for ramp in ramps], rel=1e-3, abs=1e-3)
    stage = baseline_stage(StageKind.MEAN_TEACHER, manifest, config, tmp_path)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 3), tmp_path / "parts", config)
    assert load_checkpoint(tmp_path / "parts" / "mean-teacher" / CHECKPOINT)["step"] == 2
    parts = run_stage("mean-teacher", manifest, config, tmp_path / "parts")
    assert file_digest(parts) == file_digest(whole)


def test_mean_teacher_has_one_decay(manifest: Manifest, config: Config, tmp_path: Path) -> None:
    optim = config.student.optim.model_copy(update={"ema_decay": 0.9})
    student = config.student.model_copy(update={"optim": optim})
    both = config.model_copy(update={"student": student})
    with pytest.raises(InputError, match=r"student\.optim\.ema_decay is 0\.9"):
        baseline_stage(StageKind.MEAN_TEACHER, manifest, both, tmp_path)
    baseline_stage(StageKind.FIXMATCH, manifest, both, tmp_path).close()
