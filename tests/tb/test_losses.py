"""Every loss against a slow formula written independently, its chance value and its gradient."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from tb import losses

TEMPERATURE = 0.1


def embeddings(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def slow_nt_xent(u: Tensor, v: Tensor, videos: Sequence[int] | None = None) -> float:
    rows = [*v, *u]
    num = len(u)
    ids = list(range(num)) if videos is None else videos
    total = 0.0
    for a in range(2 * num):
        partner = (a + num) % (2 * num)
        others = [k for k in range(2 * num) if ids[k % num] != ids[a % num]]
        scores = {k: math.exp(float(rows[a] @ rows[k]) / TEMPERATURE) for k in (partner, *others)}
        total += -math.log(scores[partner] / sum(scores.values()))
    return total / (2 * num)


def test_nt_xent_is_the_formula() -> None:
    u, v = embeddings(5, 16), embeddings(5, 16, seed=1)
    assert losses.nt_xent(u, v, 0.1).item() == pytest.approx(slow_nt_xent(u, v), abs=1e-9)


def test_invariant_loss_is_the_sum_over_56_ordered_pairs() -> None:
    long, short = embeddings(3, 2, 8), embeddings(3, 2, 4, 8, seed=1)
    views = [(i, c) for i in range(2) for c in range(4)]
    pairs = [(a, b) for a in views for b in views if a != b]
    assert len(pairs) == 56
    among_short = sum(slow_nt_xent(short[:, *a], short[:, *b]) for a, b in pairs) / 4
    wanted = slow_nt_xent(long[:, 0], long[:, 1]) + among_short
    assert losses.invariant_loss(long, short).item() == pytest.approx(wanted, abs=1e-9)


VIDEOS = [7, 3, 7, 5, 7]  # three windows of one video


def test_windows_of_one_video_are_no_negatives_of_each_other() -> None:
    u, v, videos = embeddings(5, 16), embeddings(5, 16, seed=1), torch.tensor(VIDEOS)
    found = losses.nt_xent(u, v, 0.1, videos=videos).item()
    assert found == pytest.approx(slow_nt_xent(u, v, VIDEOS), abs=1e-9)
    assert found < losses.nt_xent(u, v, 0.1).item() - 0.1
    long, short = embeddings(5, 2, 8), embeddings(5, 2, 4, 8, seed=1)
    views = [(i, c) for i in range(2) for c in range(4)]
    among_short = sum(
        slow_nt_xent(short[:, *a], short[:, *b], VIDEOS) for a in views for b in views if a != b
    )
    wanted = slow_nt_xent(long[:, 0], long[:, 1], VIDEOS) + among_short / 4
    assert losses.invariant_loss(long, short, videos=videos).item() == pytest.approx(wanted)


def test_other_videos_are_told_apart_as_without_numbers() -> None:
    """To the bit, and where a batch has one video alone nothing is left to tell apart."""
    long, short = embeddings(3, 2, 8), embeddings(3, 2, 4, 8, seed=1)
    found = losses.invariant_loss(long, short, videos=torch.tensor([4, 0, 9]))
    assert torch.equal(found, losses.invariant_loss(long, short))
    alone = losses.invariant_loss(long, short, videos=torch.tensor([4, 4, 4]))
    assert alone.item() == pytest.approx(0, abs=1e-12)


def test_a_bad_window_among_windows_of_its_video_counts_for_nothing() -> None:
    """The loss and its gradient are finite, and those of the batch without it."""
    u, v = embeddings(4, 6).requires_grad_(), embeddings(4, 6, seed=1)
    good, videos = torch.tensor([True, False, True, True]), torch.tensor([2, 2, 2, 2])
    for numbers in (videos, torch.tensor([2, 2, 5, 2])):
        weights = good.double() / good.double().mean()
        found = losses.nt_xent(u, v, 0.1, weights, numbers)
        assert found.item() == pytest.approx(
            losses.nt_xent(u[good], v[good], 0.1, None, numbers[good]).item(), abs=1e-12
        )
        (gradient,) = torch.autograd.grad(found, u)
        assert gradient.isfinite().all()
        assert not gradient[1].any()


def slow_nt_xent_with(u: Tensor, v: Tensor, old_u: Tensor, old_v: Tensor, others: Tensor) -> float:
    """NTX with earlier videos among the negatives of those that they are not."""
    rows, num, total = [*v, *u], len(u), 0.0
    for a in range(2 * num):
        mine = others[a % num]
        negatives = [rows[k] for k in range(2 * num) if k not in (a, (a + num) % (2 * num))]
        negatives += [*old_u[mine], *old_v[mine]]
        positive = math.exp(float(rows[a] @ rows[(a + num) % (2 * num)]) / TEMPERATURE)
        rest = sum(math.exp(float(rows[a] @ row) / TEMPERATURE) for row in negatives)
        total += -math.log(positive / (positive + rest))
    return total / (2 * num)


def test_earlier_videos_are_negatives_of_every_pair() -> None:
    long, short = embeddings(3, 2, 8), embeddings(3, 2, 4, 8, seed=1)
    old_long, old_short = embeddings(5, 2, 8, seed=2), embeddings(5, 2, 4, 8, seed=3)
    others = torch.rand(3, 5, generator=torch.Generator().manual_seed(4)) < 0.7
    assert 0 < others.sum() < others.numel()
    views = [(i, c) for i in range(2) for c in range(4)]
    among_short = sum(
        slow_nt_xent_with(short[:, *a], short[:, *b], old_short[:, *a], old_short[:, *b], others)
        for a in views
        for b in views
        if a != b
    )
    among_long = slow_nt_xent_with(long[:, 0], long[:, 1], old_long[:, 0], old_long[:, 1], others)
    earlier = losses.EarlierVideos(long=old_long, short=old_short, others=others)
    found = losses.invariant_loss(long, short, TEMPERATURE, earlier=earlier)
    assert found.item() == pytest.approx(among_long + among_short / 4, abs=1e-9)
    none = losses.EarlierVideos(old_long, old_short, torch.zeros_like(others))
    found = losses.invariant_loss(long, short, TEMPERATURE, earlier=none)
    assert found.item() == pytest.approx(losses.invariant_loss(long, short).item(), abs=1e-12)


def with_earlier(long: Tensor, short: Tensor, weights: Tensor | None) -> Tensor:
    """L_I beside three earlier videos."""
    others = torch.ones(len(long), 3, dtype=torch.bool)
    earlier = losses.EarlierVideos(
        embeddings(3, 2, 6, seed=7), embeddings(3, 2, 4, 6, seed=8), others
    )
    return losses.invariant_loss(long, short, 0.1, weights, earlier=earlier)


@pytest.mark.parametrize(
    ("reduction", "factor"), [("mean", 1 / 3), ("sum", 1), ("anchor-sum", 8 / 3)]
)
def test_pooled_loss_stays_inside_each_video(reduction: losses.Reduction, factor: float) -> None:
    short = embeddings(3, 2, 4, 8)
    wanted = factor * sum(slow_nt_xent(video[0], video[1]) for video in short)
    found = losses.distinctive_pooled_loss(short, reduction=reduction)
    assert found.item() == pytest.approx(wanted, abs=1e-9)


def slow_unpooled_loss(slices: Tensor, short: Tensor) -> float:
    num_videos, total = len(slices), 0.0
    for i in range(2):
        for j in range(2):
            for b in range(num_videos):
                matrix = slices[b, i] @ short[b, j].T / TEMPERATURE
                for t in range(4):
                    for line in (matrix[t], matrix[:, t]):
                        total += -math.log(float(line.exp()[t] / line.exp().sum()))
    return total / (2 * num_videos)


def test_unpooled_loss_is_the_cross_entropy_of_rows_and_columns() -> None:
    slices, short = embeddings(3, 2, 4, 8), embeddings(3, 2, 4, 8, seed=1)
    found = losses.distinctive_unpooled_loss(slices, short)
    assert found.item() == pytest.approx(slow_unpooled_loss(slices, short), abs=1e-9)


def test_chance_values() -> None:
    """Embeddings without information: all the same."""
    same = torch.ones(3, 2, 4, 1, dtype=torch.float64)
    assert losses.distinctive_pooled_loss(same).item() == pytest.approx(math.log(7))
    summed = losses.distinctive_pooled_loss(same, reduction="anchor-sum")
    assert summed.item() == pytest.approx(8 * math.log(7))
    assert losses.distinctive_unpooled_loss(same, same).item() == pytest.approx(16 * math.log(4))
    assert losses.nt_xent(same[:, 0, 0], same[:, 0, 0], 0.1).item() == pytest.approx(math.log(5))
    total = losses.invariant_loss(same[:, :, 0], same).item()
    assert total == pytest.approx((1 + 56 / 4) * math.log(5))


def test_perfect_embeddings_cost_next_to_nothing() -> None:
    moments = torch.eye(4, dtype=torch.float64).expand(3, 2, 4, 4)
    assert losses.distinctive_pooled_loss(moments).item() < 1e-3
    assert losses.distinctive_unpooled_loss(moments, moments).item() < 0.01
    videos = torch.eye(3, dtype=torch.float64)
    long, short = videos[:, None].expand(3, 2, 3), videos[:, None, None].expand(3, 2, 4, 3)
    assert losses.invariant_loss(long, short).item() < 0.01


def slow_distance(student: list[float], target: list[float], kind: str) -> float:
    def kl(p: list[float], q: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)

    if kind == "l2":
        return sum((a - b) ** 2 for a, b in zip(student, target, strict=True))
    if kind == "kl":
        return kl(target, student)
    middle = [(a + b) / 2 for a, b in zip(student, target, strict=True)]
    return (kl(student, middle) + kl(target, middle)) / 2


@pytest.mark.parametrize("kind", ["l2", "kl", "js"])
def test_distillation_is_the_formula(kind: losses.Distance) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    target = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    target[0, 1:] = 0  # a certain teacher: 0 log 0 is 0
    target = target / target.sum(-1, keepdim=True)
    pairs = zip(logits.softmax(-1).tolist(), target.tolist(), strict=True)
    wanted = sum(slow_distance(p, q, kind) for p, q in pairs) / len(logits)
    assert losses.distillation_loss(logits, target, kind).item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("num_classes", [51, 101, 400])
def test_omega_in_the_released_code_s_units(num_classes: int) -> None:
    """Half and half, the mean over both halves is K / 2 of a mean over videos and classes each."""
    generator = torch.Generator().manual_seed(0)
    logits, answers = torch.randn(2, 8, num_classes, generator=generator, dtype=torch.float64)
    target = answers.softmax(-1)
    halves = [((logits.softmax(-1) - target) ** 2)[part].mean() for part in (slice(4), slice(4, 8))]
    wanted = num_classes / 2 * (halves[0] + halves[1])
    assert losses.distillation_loss(logits, target).item() == pytest.approx(wanted.item())


@pytest.mark.parametrize("kind", ["l2", "kl", "js"])
def test_no_gradient_reaches_the_teacher(kind: losses.Distance) -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    teacher = torch.randn(4, 5, requires_grad=True)
    losses.distillation_loss(logits, teacher.softmax(-1), kind).backward()
    assert teacher.grad is None
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["l2", "kl", "js"])
def test_gradients_stay_finite_where_a_probability_underflows(kind: losses.Distance) -> None:
    logits = torch.tensor([[0.0, 200.0, -200.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0, 0.0]])
    losses.distillation_loss(logits, target, kind).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_unknown_distance_is_named() -> None:
    with pytest.raises(ValueError, match="kind is 'l1'"):
        losses.distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), "l1")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_gradients() -> None:
    def raw(*shape: int, seed: int) -> Tensor:
        return embeddings(*shape, seed=seed).requires_grad_()

    long, short, slices = raw(2, 2, 3, seed=0), raw(2, 2, 4, 3, seed=1), raw(2, 2, 4, 3, seed=2)
    assert torch.autograd.gradcheck(losses.invariant_loss, (long, short))
    assert torch.autograd.gradcheck(losses.distinctive_pooled_loss, (short,))
    assert torch.autograd.gradcheck(losses.distinctive_unpooled_loss, (slices, short))
    logits, target = raw(3, 4, seed=3), torch.full((3, 4), 0.25, dtype=torch.float64)
    for kind in ("l2", "kl", "js"):
        assert torch.autograd.gradcheck(
            lambda x, kind=kind: losses.distillation_loss(x, target, kind), (logits,)
        )


def pseudo_labels(answers: Tensor, guesses: Tensor, weights: Tensor | None) -> Tensor:
    return torch.stack(losses.pseudo_label_loss(answers, guesses * 5, 0.6, weights))


def entropies(logits: Tensor, weights: Tensor | None) -> Tensor:
    labels = torch.arange(5) if weights is not None else torch.arange(5)[VALID]
    return losses.cross_entropy(logits, labels, weights)


def distances(kind: str) -> Callable[..., Tensor]:
    return lambda logits, target, weights: losses.distillation_loss(
        logits, target.softmax(-1), kind, weights
    )


def pooled(reduction: str) -> Callable[..., Tensor]:
    return lambda short, weights: losses.distinctive_pooled_loss(short, 0.1, reduction, weights)


VALID = torch.tensor([True, False, True, True, False])
LOSSES: dict[str, tuple[Callable[..., Tensor], list[tuple[int, ...]]]] = {
    "NTX": (lambda u, v, weights: losses.nt_xent(u, v, 0.1, weights), [(6,), (6,)]),
    "L_I": (lambda g, s, weights: losses.invariant_loss(g, s, 0.1, weights), [(2, 6), (2, 4, 6)]),
    "L_I, queue": (with_earlier, [(2, 6), (2, 4, 6)]),
    "L_D1": (pooled("mean"), [(2, 4, 6)]),
    "L_D1, sum": (pooled("sum"), [(2, 4, 6)]),
    "L_D1, anchor-sum": (pooled("anchor-sum"), [(2, 4, 6)]),
    "L_D2": (
        lambda u, s, weights: losses.distinctive_unpooled_loss(u, s, 0.1, weights),
        [(2, 4, 6), (2, 4, 6)],
    ),
    "cross entropy": (entropies, [(5,)]),
    "l2": (distances("l2"), [(5,), (5,)]),
    "kl": (distances("kl"), [(5,), (5,)]),
    "js": (distances("js"), [(5,), (5,)]),
    "pseudo-label": (pseudo_labels, [(5,), (5,)]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_bad_video_counts_for_nothing(name: str) -> None:
    """The loss and its gradient are those of the batch without the bad videos."""
    loss, shapes = LOSSES[name]
    whole = [embeddings(len(VALID), *x, seed=i).requires_grad_() for i, x in enumerate(shapes)]
    good = [rows.detach()[VALID].requires_grad_() for rows in whole]
    weights = VALID.double() / VALID.double().mean()
    found, wanted = loss(*whole, weights), loss(*good, None)
    assert wanted.abs().sum() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-7, atol=1e-12)
    for one in (found, wanted):
        one.sum().backward()  # type: ignore[no-untyped-call]
    for rows, alone in zip(whole, good, strict=True):
        if alone.grad is None:  # a target
            assert rows.grad is None
            continue
        assert rows.grad is not None
        assert not rows.grad[~VALID].any()
        torch.testing.assert_close(rows.grad[VALID], alone.grad, rtol=1e-9, atol=1e-12)
    others = [rows.detach().clone() for rows in whole]
    for rows in others:
        rows[~VALID] = rows[~VALID].flip(-1)
    assert torch.equal(loss(*others, weights), found)
