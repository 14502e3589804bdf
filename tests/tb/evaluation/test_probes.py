import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders import Part
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.evaluation.features import stage_features
from tb.evaluation.held_out_readings import LOG
from tb.evaluation.probes import (
    fit_logistic,
    knn_probabilities,
    knn_probe,
    linear_probe,
    recall_at,
    retrieve,
)
from tb.networks.backbones import build_backbone
from tb.weights.checkpoint import load_checkpoint


def cosine(one: np.ndarray, two: np.ndarray) -> float:
    return float(one @ two / np.linalg.norm(one) / np.linalg.norm(two))


def ranked(query: np.ndarray, gallery: np.ndarray) -> list[int]:
    return sorted(range(len(gallery)), key=lambda row: -cosine(query, gallery[row]))


@given(
    seed=st.integers(0, 2**32 - 1),
    num_gallery=st.integers(1, 30),
    k=st.integers(1, 25),
    temperature=st.sampled_from([0.05, 0.07, 1.0]),
)
@settings(max_examples=50)
def test_knn_agrees_with_a_slow_count(
    seed: int, num_gallery: int, k: int, temperature: float
) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = rng.normal(size=(6, 5)), rng.normal(size=(num_gallery, 5))
    labels = rng.integers(0, 4, num_gallery)
    found = knn_probabilities(
        torch.from_numpy(queries).float(),
        torch.from_numpy(gallery).float(),
        torch.from_numpy(labels),
        4,
        k=k,
        temperature=temperature,
    )
    for query, shares in zip(queries, found.tolist(), strict=True):
        votes = [0.0] * 4
        for row in ranked(query, gallery)[:k]:
            votes[labels[row]] += np.exp(cosine(query, gallery[row]) / temperature)
        assert shares == pytest.approx([vote / sum(votes) for vote in votes], abs=1e-4)


def test_many_queries_are_as_good_as_few() -> None:
    """More queries than are compared at a time."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(1500, 3, generator=generator)
    gallery = torch.randn(40, 3, generator=generator)
    labels, query_labels = torch.arange(40) % 4, torch.arange(1500) % 4
    whole = knn_probabilities(queries, gallery, labels, 4)
    last = knn_probabilities(queries[1400:], gallery, labels, 4)
    assert torch.allclose(whole[1400:], last, atol=1e-6)
    recalls = [
        recall_at(part, own, gallery, labels, ks=[1])[1]
        for part, own in zip(queries.split(500), query_labels.split(500), strict=True)
    ]
    found = recall_at(queries, query_labels, gallery, labels, ks=[1])
    assert found[1] == pytest.approx(np.mean(recalls))


@given(seed=st.integers(0, 2**32 - 1), num_gallery=st.integers(1, 30))
@settings(max_examples=50)
def test_recall_agrees_with_a_slow_count(seed: int, num_gallery: int) -> None:
    rng = np.random.default_rng(seed)
    queries, gallery = rng.normal(size=(7, 5)), rng.normal(size=(num_gallery, 5))
    query_labels, labels = rng.integers(0, 5, 7), rng.integers(0, 5, num_gallery)
    ks = (1, 5, 10)
    found = recall_at(
        torch.from_numpy(queries),
        torch.from_numpy(query_labels),
        torch.from_numpy(gallery),
        torch.from_numpy(labels),
        ks=ks,
    )
    for k in ks:
        hits = [
            any(labels[row] == label for row in ranked(query, gallery)[:k])
            for query, label in zip(queries, query_labels, strict=True)
        ]
        assert found[k] == pytest.approx(np.mean(hits))


def test_the_linear_probe_is_at_the_minimum() -> None:
    """The loss is strictly convex in the weights: where its gradient vanishes is the minimum."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    l2 = 0.01
    weight, bias = fit_logistic(
        torch.from_numpy(features).float(), torch.from_numpy(labels), 3, l2=l2
    )
    features = features.astype(np.float32).astype(np.float64)
    logits = features @ weight.numpy().T + bias.numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    error = (shares - np.eye(3)[labels]) / len(labels)
    assert np.abs(error.T @ features + l2 * weight.numpy()).max() < 1e-5
    assert np.abs(error.sum(0)).max() < 1e-5


def test_a_linear_probe_separates_what_a_line_separates() -> None:
    features = torch.tensor([[-1.0], [-0.5], [0.5], [1.0]])
    weight, bias = fit_logistic(features, torch.tensor([0, 0, 1, 1]), 2, l2=1e-3)
    assert (features @ weight.T + bias).argmax(1).tolist() == [0, 0, 1, 1]


@pytest.fixture
def work(finished: Path, tmp_path: Path) -> Path:
    """A work folder with one trained teacher, to write into."""
    shutil.copytree(finished / "distinctive", tmp_path / "distinctive")
    return tmp_path


def test_features_are_means_over_clips_of_an_independent_pass(
    work: Path, manifest: Manifest, config: Config
) -> None:
    from loaders import Subset, open_loader
    from loaders.plan import stage_views

    found = stage_features("distinctive", manifest, config, work, "test")
    assert found.rows.tolist() == manifest.indices("test").tolist()
    assert found.labels.tolist() == manifest.labels[found.rows].tolist()
    backbone = build_backbone("small").eval()
    state = load_checkpoint(work / "distinctive" / "checkpoint.pt")["model"]
    backbone.load_state_dict(
        {
            name.removeprefix("backbone."): value
            for name, value in state.items()
            if name.startswith("backbone.")
        }
    )
    clips = config.classify.clips
    spec = stage_views.evaluation(
        num_frames=clips.num_frames, stride=clips.stride, size_px=clips.size_px, num_clips=2
    )
    loader = open_loader(
        manifest, spec, subset=Subset(split="test"), batch_size=1, shuffle=False, device="cpu"
    )
    for batch, vector in zip(loader.batches(0), found.vectors, strict=True):
        with torch.no_grad():
            each = [
                backbone(clip[None]).mean((2, 3, 4))[0] for clip in batch.views["clips"][0, :, 0]
            ]
        assert torch.allclose(torch.stack(each).mean(0), vector, atol=1e-4)


def test_features_are_kept_while_their_sources_stay(
    work: Path, manifest: Manifest, config: Config
) -> None:
    path = work / "distinctive" / "features-test.parquet"
    first = stage_features("distinctive", manifest, config, work, "test")
    stamp = path.stat().st_mtime_ns
    again = stage_features("distinctive", manifest, config, work, "test")
    assert path.stat().st_mtime_ns == stamp
    assert torch.equal(first.vectors, again.vectors)
    table = pq.read_table(path)
    assert table.column("key").to_pylist() == [manifest.keys[row] for row in first.rows]
    state = load_checkpoint(work / "distinctive" / "checkpoint.pt")
    name = next(key for key, value in state["model"].items() if value.dim() == 5)
    state["model"][name] = state["model"][name] * -1
    torch.save(state, work / "distinctive" / "checkpoint.pt")
    changed = stage_features("distinctive", manifest, config, work, "test")
    assert path.stat().st_mtime_ns != stamp
    assert not torch.equal(first.vectors, changed.vectors)


def test_probes_learn_from_the_labelled_part_and_leave_their_results(
    work: Path, manifest: Manifest, config: Config
) -> None:
    folder = work / "distinctive"
    test = stage_features("distinctive", manifest, config, work, "test")
    train = stage_features("distinctive", manifest, config, work, "train")
    for all_labels, part in ((False, Part.LABELLED), (True, Part.ALL)):
        gallery = train.of(config.labels.subset(part).rows(manifest))
        assert len(gallery.rows) == (24 if all_labels else 12)
        if all_labels:
            with pytest.raises(InputError, match=r"already \(probe knn\).*--peek-test"):
                knn_probe("distinctive", manifest, config, work, k=3, all_labels=True)
        found = knn_probe(
            "distinctive", manifest, config, work, k=3, all_labels=all_labels, peek=all_labels
        )
        assert found.num_peeks == all_labels
        shares = knn_probabilities(test.vectors, gallery.vectors, gallery.labels, 12, k=3)
        assert found.top1 == float((shares.argmax(1) == test.labels).double().mean())
    saved = json.loads((folder / "probe-knn-test.json").read_text())
    assert saved["top1"] == found.top1
    assert saved["source"]["k"] == 3
    linear = linear_probe("distinctive", manifest, config, work)
    assert json.loads((folder / "probe-linear-test.json").read_text())["top5"] == linear.top5
    recall = retrieve("distinctive", manifest, config, work).recall
    assert json.loads((folder / "retrieval-test.json").read_text())["recall"] == recall
    assert list(recall.values()) == sorted(recall.values())
    assert recall["50"] == 1.0  # the whole gallery, which is smaller and has every class
    assert retrieve("distinctive", manifest, config, work).recall == recall  # the same reading
    evaluation = config.evaluation.model_copy(update={"num_clips": 1})
    with pytest.raises(InputError, match=r"already \(retrieval\)"):
        retrieve(
            "distinctive", manifest, config.model_copy(update={"evaluation": evaluation}), work
        )
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    assert [line["what"] for line in lines] == [
        *["probe knn"] * 2,
        "probe linear",
        *["retrieval"] * 2,
    ]


def test_a_classifiers_backbone_can_be_probed_too(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    shutil.copytree(finished / "supervised", tmp_path / "supervised")
    assert retrieve("supervised", manifest, config, tmp_path).num_gallery == 24


def test_wrong_requests_are_named(work: Path, manifest: Manifest, config: Config) -> None:
    with pytest.raises(InputError, match="no such checkpoint; train that stage first"):
        knn_probe("invariant", manifest, config, work)
    train = config.evaluation.model_copy(update={"split": "train"})
    with pytest.raises(InputError, match=r"evaluation\.split is 'train', which a probe learns"):
        retrieve("distinctive", manifest, config.model_copy(update={"evaluation": train}), work)
    other = config.model_copy(update={"backbone": "r3d_18"})
    with pytest.raises(InputError, match="checkpoint of backbone 'small'"):
        linear_probe("distinctive", manifest, other, work)
