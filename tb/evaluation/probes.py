"""Measures a frozen backbone's features: k-NN, a linear classifier, video retrieval.

The gallery holds training videos: probes learn from them, and retrieval finds them. The queries are
the videos of `evaluation.split`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from loaders import Part
from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.format.manifest import Manifest
from shards.format.splits import SplitName
from tb.config.differences import Tree
from tb.config.sections import Config
from tb.evaluation.accuracy import Evaluation, measure_accuracy, write_evaluation
from tb.evaluation.evaluate import evaluation_source
from tb.evaluation.features import Features, stage_features
from tb.evaluation.held_out_readings import Reading, check_unread, log_reading, num_readings
from tb.evaluation.probe_defaults import DEFAULT_K, DEFAULT_L2, DEFAULT_TEMPERATURE

RECALLS = (1, 5, 10, 20, 50)
_CHUNK = 1024  # queries compared with the whole gallery at a time
_MAX_ITERATIONS = 500


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """How often a video of the query's own class is among the nearest training videos.

    Attributes:
        stage: Folder name of the trained stage.
        split: The split of the queries.
        num_queries: Their number.
        num_gallery: The number of training videos.
        recall: R@k in [0, 1] by str(k), for every k of `RECALLS`.
        source: What the numbers depend on.
    """

    stage: str
    split: str
    num_queries: int
    num_gallery: int
    recall: dict[str, float]
    source: Tree


def knn_probe(
    stage: str,
    manifest: Manifest,
    config: Config,
    work: Path,
    *,
    k: int = DEFAULT_K,
    temperature: float = DEFAULT_TEMPERATURE,
    all_labels: bool = False,
    peek: bool = False,
) -> Evaluation:
    """Weighted k-nearest neighbours (see `knn_probabilities`).

    It writes WORK/STAGE/probe-knn-SPLIT.json.

    Args:
        stage: Folder of a trained stage.
        manifest: The data set.
        config: Clips, labels and split.
        work: The work folder.
        k: Number of neighbours.
        temperature: Temperature of their weights.
        all_labels: Learn from all training videos, not only from those that `labels` chooses.
        peek: As in `tb.evaluation.evaluate.evaluate`; each probe has one reading of the split.

    Raises:
        InputError: The stage is not trained or of another backbone, or a split is empty; or the
            split was read already with other settings, and `peek` is False.
    """
    gallery, queries = _gallery_and_queries(stage, manifest, config, work, all_labels)
    probabilities = knn_probabilities(
        queries.vectors,
        gallery.vectors,
        gallery.labels,
        len(manifest.classes),
        k=k,
        temperature=temperature,
    )
    settings = {"k": k, "temperature": temperature, "all_labels": all_labels}
    return _record(
        Reading.KNN_PROBE, stage, manifest, config, work, probabilities, queries, settings, peek
    )


def linear_probe(
    stage: str,
    manifest: Manifest,
    config: Config,
    work: Path,
    *,
    l2: float = DEFAULT_L2,
    all_labels: bool = False,
    peek: bool = False,
) -> Evaluation:
    """Multinomial logistic regression on standardised features (see `linear_probabilities`).

    It writes WORK/STAGE/probe-linear-SPLIT.json. Arguments and errors are those of `knn_probe`;
    `l2` is the weight of the penalty.
    """
    gallery, queries = _gallery_and_queries(stage, manifest, config, work, all_labels)
    probabilities = linear_probabilities(
        queries.vectors, gallery.vectors, gallery.labels, len(manifest.classes), l2=l2
    )
    settings = {"l2": l2, "all_labels": all_labels}
    return _record(
        Reading.LINEAR_PROBE, stage, manifest, config, work, probabilities, queries, settings, peek
    )


def retrieve(
    stage: str, manifest: Manifest, config: Config, work: Path, *, peek: bool = False
) -> Retrieval:
    """Video retrieval: is a video of the query's class among the k nearest training videos?

    It writes what it returns to WORK/STAGE/retrieval-SPLIT.json. Arguments and errors are those of
    `knn_probe`; the gallery has all training videos.
    """
    gallery, queries = _gallery_and_queries(stage, manifest, config, work, all_labels=True)
    folder, split = work / stage, config.evaluation.split
    source = evaluation_source(folder, manifest, config)
    if not peek:
        check_unread(folder, Reading.RETRIEVAL, split, source)
    recall = recall_at(queries.vectors, queries.labels, gallery.vectors, gallery.labels, ks=RECALLS)
    log_reading(folder, Reading.RETRIEVAL, split, recall[1], source, peek=peek)
    result = Retrieval(
        stage=stage,
        split=split,
        num_queries=len(queries.rows),
        num_gallery=len(gallery.rows),
        recall={str(k): share for k, share in recall.items()},
        source=source,
    )
    text = json.dumps(asdict(result), indent=1) + "\n"
    publish_bytes(folder / f"retrieval-{split}.json", text.encode())
    return result


def knn_probabilities(
    queries: Tensor,
    gallery: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    k: int = DEFAULT_K,
    temperature: float = DEFAULT_TEMPERATURE,
) -> Tensor:
    """Shares of the votes of the k nearest by cosine; a vote weighs exp(cosine / temperature).

    This is the protocol of Wu et al. (CVPR 2018), the usual one for self-supervised features.

    Args:
        queries: (N, C) features.
        gallery: (M, C) features; the k nearest of them vote, or all if there are fewer.
        labels: (M,) int64 in [0, K).
        num_classes: K.
        k: Number of neighbours.
        temperature: Above 0; the smaller it is, the more the nearest count.

    Returns:
        (N, K) rows that sum to 1; 0 for a class without a vote.
    """
    gallery = functional.normalize(gallery)
    found = []
    for chunk in torch.split(functional.normalize(queries), _CHUNK):
        cosines, nearest = (chunk @ gallery.T).topk(min(k, len(gallery)))
        votes = (cosines / temperature).softmax(-1)
        shares = torch.zeros(len(chunk), num_classes)
        found.append(shares.scatter_add_(1, labels[nearest], votes))
    return torch.cat(found)


def linear_probabilities(
    queries: Tensor, gallery: Tensor, labels: Tensor, num_classes: int, *, l2: float
) -> Tensor:
    """What a logistic regression on the gallery says about the queries (see `fit_logistic`).

    Features are standardised with the gallery's mean and deviation.

    Args:
        queries: (N, C) float32 features.
        gallery: (M, C) float32 features.
        labels: (M,) int64 in [0, K).
        num_classes: K.
        l2: Above 0.

    Returns:
        (N, K) float32 rows that sum to 1.
    """
    mean, deviation = gallery.mean(0), gallery.std(0, correction=0)
    scale = torch.where(deviation > 0, deviation, 1)  # 1 for a constant feature
    weight, bias = fit_logistic((gallery - mean) / scale, labels, num_classes, l2=l2)
    return ((queries - mean) / scale @ weight.T + bias).softmax(-1)


def fit_logistic(
    features: Tensor, labels: Tensor, num_classes: int, *, l2: float
) -> tuple[Tensor, Tensor]:
    """The unique minimum of mean cross entropy + l2 / 2 |weight|^2, by L-BFGS.

    Args:
        features: (N, C) of about unit scale.
        labels: (N,) int64 in [0, K).
        num_classes: K.
        l2: Above 0. The bias has no penalty.

    Returns:
        (K, C) weight and (K,) bias, float32.
    """
    features = features.double()
    weight = torch.zeros(num_classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_MAX_ITERATIONS,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = functional.linear(features, weight, bias)
        total = functional.cross_entropy(logits, labels) + l2 / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach().float(), bias.detach().float()


def recall_at(
    queries: Tensor,
    query_labels: Tensor,
    gallery: Tensor,
    gallery_labels: Tensor,
    *,
    ks: Sequence[int],
) -> dict[int, float]:
    """R@k: the share of queries with one of their own class among the k nearest by cosine.

    Args:
        queries: (N, C) features.
        query_labels: (N,) int64.
        gallery: (M, C) features.
        gallery_labels: (M,) int64.
        ks: Ascending; a k above M means the whole gallery.
    """
    gallery = functional.normalize(gallery)
    hits = []
    for chunk, labels in zip(
        torch.split(functional.normalize(queries), _CHUNK),
        torch.split(query_labels, _CHUNK),
        strict=True,
    ):
        nearest = (chunk @ gallery.T).topk(min(max(ks), len(gallery))).indices
        hits.append(gallery_labels[nearest] == labels[:, None])
    found = torch.cat(hits)
    return {k: float(found[:, :k].any(1).double().mean()) for k in ks}


def _gallery_and_queries(
    stage: str, manifest: Manifest, config: Config, work: Path, all_labels: bool
) -> tuple[Features, Features]:
    if SplitName(config.evaluation.split) is SplitName.TRAIN:
        raise InputError(
            "evaluation.split is 'train', which a probe learns from; --set evaluation.split=test"
        )
    wanted = config.labels.subset(Part.ALL if all_labels else Part.LABELLED).rows(manifest)
    gallery = stage_features(stage, manifest, config, work, config.labels.split)
    queries = stage_features(stage, manifest, config, work, config.evaluation.split)
    return gallery.of(wanted), queries


def _record(
    probe: Reading,
    stage: str,
    manifest: Manifest,
    config: Config,
    work: Path,
    probabilities: Tensor,
    queries: Features,
    settings: Tree,
    peek: bool,
) -> Evaluation:
    folder, split = work / stage, config.evaluation.split
    labels = config.labels.model_dump(mode="json")
    source = {**evaluation_source(folder, manifest, config), "labels": labels, **settings}
    if not peek:
        check_unread(folder, probe, split, source)
    result = measure_accuracy(
        probabilities.numpy(),
        queries.labels.numpy(),
        manifest.classes,
        stage=stage,
        split=split,
        source={"probe": probe.probe_name, **source},
    )
    num_peeks = log_reading(folder, probe, split, result.top1, source, peek=peek)
    result = replace(result, num_peeks=num_peeks, num_readings=num_readings(folder, split))
    write_evaluation(folder / f"probe-{probe.probe_name}-{split}.json", result)
    return result
