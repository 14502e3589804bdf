"""The stages of the method, each as a `Stage` for the one training loop.

A work folder holds them side by side:

    WORK/invariant  distinctive  tclr                      stage 1, self-supervised
    WORK/finetune-invariant  finetune-distinctive          stage 2, on the labelled subset
    WORK/student                                           stage 3
    WORK/supervised                                        the baseline: stage 3 without teachers
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from loaders.loader import Batch, Loader, engine_name, open_loader, usable_device
from loaders.plan import views
from loaders.subset import Part
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb import losses
from tb.config.settings import Config, Optim, Tree
from tb.evaluation.evaluate import evaluation_facts, evaluation_loader, video_means
from tb.method.scores import TEACHERS
from tb.method.teachers import finetuned, load_teachers
from tb.networks.models import Classifier, Embedder, build_backbone, to_channels_last
from tb.training.distributed import gather, join, mean
from tb.training.loop import Stage, precision
from tb.weights.checkpoint import CHECKPOINT
from tb.weights.pretrained import load_pretrained

SELF_SUPERVISED = ("invariant", "distinctive", "tclr")


NAMES = (*SELF_SUPERVISED, *map(finetuned, TEACHERS), "supervised", "student")


def pretrain_stage(kind: str, manifest: Manifest, config: Config) -> Stage:
    """Stage 1: L_I ("invariant"), L_D1 + L_D2 ("distinctive"), or all three ("tclr")."""
    optim = config.pretrain.optim
    spec = pretrain_views(config)
    loader = stage_loader(manifest, spec, "all", config, optim)
    if len(loader.rows) < optim.batch_size:
        raise InputError(
            f"{len(loader.rows)} training videos, but pretrain.optim.batch_size is "
            f"{optim.batch_size}: a batch would be full of repeats; "
            f"--set pretrain.optim.batch_size={max(2, len(loader.rows) // 2)}"
        )
    torch.manual_seed(config.machine.seed)
    model = Embedder(build_backbone(config.backbone))
    to_channels_last(model)

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        return _pretrain_terms(kind, model, batches[0], config)

    return Stage(
        name=kind,
        model=model,
        backbone=config.backbone,
        classes=[],
        optim=optim,
        loaders=(loader,),
        loss=loss,
        settings=_settings(config, manifest, pretrain=config.pretrain.model_dump(mode="json")),
    )


def _pretrain_terms(kind: str, model: Embedder, batch: Batch, config: Config) -> dict[str, Tensor]:
    """One forward per view kind: batch norm sees all long views, then all short views."""
    num_videos = len(batch.keys)
    short = model(batch.views["short"].flatten(0, 2)).view(
        num_videos, *batch.views["short"].shape[1:3], -1
    )
    features = model.backbone(batch.views["long"].flatten(0, 1))
    temperature = config.pretrain.temperature
    terms: dict[str, Tensor] = {}
    # Only what the loss takes goes through the head: its batch norm counts all that it sees. The
    # losses themselves need float32, also under autocast: at t = 0.1 a logit in bfloat16 is off by
    # 0.03.
    if kind != "distinctive":
        long = model.pooled(features).view(num_videos, 2, -1)
        with torch.autocast(features.device.type, enabled=False):
            # Other videos are the negatives: those of all processes.
            terms["L_I"] = losses.invariant_loss(gather(long), gather(short), temperature)
    if kind != "invariant":
        slices = model.slices(features)
        slices = slices.view(num_videos, 2, *slices.shape[1:])
        reduction = config.pretrain.pooled_reduction
        with torch.autocast(features.device.type, enabled=False):
            terms["L_D1"] = losses.distinctive_pooled_loss(short, temperature, reduction)
            if reduction == "sum":
                # Of the whole batch, although this piece may be a part of it.
                terms["L_D1"] = terms["L_D1"] * (config.pretrain.optim.batch_size / num_videos)
            terms["L_D2"] = losses.distinctive_unpooled_loss(slices, short, temperature)
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def finetune_stage(teacher: str, manifest: Manifest, config: Config, init: Path) -> Stage:
    """Stage 2: the teacher's backbone (from `init`) and a new classifier, cross entropy."""
    model = new_classifier(manifest, config)
    start = load_pretrained(init, model.backbone, config.backbone)
    return _supervised(finetuned(teacher), model, manifest, config, config.finetune.optim, start)


def supervised_stage(manifest: Manifest, config: Config) -> Stage:
    """The baseline: the student's network and budget, from scratch on the labelled videos alone."""
    model = new_classifier(manifest, config)
    return _supervised("supervised", model, manifest, config, config.student.optim, "scratch")


def _supervised(
    name: str, model: Classifier, manifest: Manifest, config: Config, optim: Optim, init: str
) -> Stage:
    loader = stage_loader(manifest, clip_views(config), "labelled", config, optim)

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        (batch,) = batches
        return {"loss": functional.cross_entropy(model(batch.views["clip"]), batch.labels)}

    facts = {"optim": optim.model_dump(mode="json"), "init": init}
    return classifier_stage(name, model, manifest, config, optim, (loader,), loss, facts)


def student_stage(manifest: Manifest, config: Config, work: Path) -> Stage:
    """Stage 3: L_sup + omega L_unsup, the frozen teachers mixed per video."""
    optim = config.student.optim
    spec = clip_views(config)
    labelled = stage_loader(manifest, spec, "labelled", config, optim)
    unlabelled = stage_loader(manifest, spec, "unlabelled", config, optim)
    teachers = load_teachers(manifest, config, work, labelled.device)
    model = new_classifier(manifest, config)
    init = init_student(model, config, work)

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        clips = torch.cat([batch.views["clip"] for batch in batches])
        rows = torch.cat([torch.from_numpy(batch.plan.rows) for batch in batches])
        target = teachers.target(clips, rows)
        logits = model(clips).float()
        labels = batches[0].labels
        supervised = functional.cross_entropy(logits[: len(labels)], labels)
        distance = losses.distillation_loss(logits, target, config.student.distance)
        total = supervised + config.student.omega * distance
        return {"loss": total, "L_sup": supervised, "L_unsup": distance}

    facts = {
        "student": config.student.model_dump(mode="json"),
        "teachers": teachers.source,
        "init": init,
    }
    streams = (labelled, unlabelled)
    return classifier_stage("student", model, manifest, config, optim, streams, loss, facts)


def new_classifier(manifest: Manifest, config: Config) -> Classifier:
    """An untrained classifier of the set's classes; the same for the same seed."""
    torch.manual_seed(config.machine.seed)
    backbone = build_backbone(config.backbone)
    model = Classifier(backbone, len(manifest.classes), config.classify.dropout)
    to_channels_last(model)
    return model


def init_student(model: Classifier, config: Config, work: Path) -> str:
    """Starts the backbone as `student.init` says; returns what identifies that start."""
    init = config.student.init
    if init == "scratch":
        return init
    path = work / init / CHECKPOINT if init in SELF_SUPERVISED else Path(init)
    return load_pretrained(path, model.backbone, config.backbone)


def pretrain_views(config: Config) -> views.ViewSpec:
    """The long and short views of stage 1."""
    clips = config.pretrain.clips
    return views.pretrain(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def clip_views(config: Config) -> views.ViewSpec:
    """The clip of stages 2 and 3."""
    clips = config.classify.clips
    return views.finetune(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def stage_loader(
    manifest: Manifest, spec: views.ViewSpec, part: Part, config: Config, optim: Optim
) -> Loader:
    """The training videos of one part, as this process's share of the stage's batches."""
    world = join()
    device = usable_device(world.device(config.machine.device))
    return open_loader(
        manifest,
        spec,
        subset=config.labels.subset(part),
        batch_size=optim.piece_size(world.size),
        engine=config.machine.engine,
        device=str(device),
        dtype=input_dtype(precision(config.machine, device)),
        seed=config.machine.seed,
        order=config.machine.order,
        rank=world.rank,
        world_size=world.size,
        num_workers=world.num_workers(config.machine.num_workers),
        tune=config.machine.tune,
        gpu_memory_mb=config.machine.gpu_memory_mb,
    )


def input_dtype(amp: str) -> str:
    """The loaders' dtype: under autocast networks take float16 too, and half the memory moves."""
    return "float32" if amp == "off" else "float16"


def classifier_stage(
    name: str,
    model: Classifier,
    manifest: Manifest,
    config: Config,
    optim: Optim,
    loaders: tuple[Loader, ...],
    loss: Callable[[tuple[Batch, ...]], dict[str, Tensor]],
    facts: Tree,
) -> Stage:
    """A stage that trains a classifier; `facts` are what its result depends on beside labels."""
    validate = None
    if config.labels.validation:
        validate = _validation(model, manifest, config)
        facts = facts | {"validated_on": evaluation_facts(config)}
    settings = _settings(
        config,
        manifest,
        labels=_labels_facts(config),
        classify=config.classify.model_dump(mode="json"),
        **facts,
    )
    return Stage(
        name=name,
        model=model,
        backbone=config.backbone,
        classes=list(manifest.classes),
        optim=optim,
        loaders=loaders,
        loss=loss,
        settings=settings,
        validate=validate,
    )


def _validation(
    model: Classifier, manifest: Manifest, config: Config
) -> Callable[[], dict[str, float]]:
    """Cross entropy and top-1 of the mean softmax, on the videos held out, as `tb eval` has them.

    Processes share the videos.
    """
    world, subset = join(), config.labels.subset("validation")
    loader = evaluation_loader(manifest, config, subset, world)
    if world.is_main:
        num_classes = len(set(manifest.labels[loader.rows].tolist()))
        print(
            f"held out for validation: {len(loader.rows)} labelled videos, of {num_classes} of "
            f"{len(manifest.classes)} classes"
        )

    def validate() -> dict[str, float]:
        probabilities, rows = video_means(
            loader, lambda clips: model(clips).float().softmax(-1), "validate", quiet=True
        )
        labels = manifest.labels[rows]
        right = probabilities[np.arange(len(rows)), labels]
        entropies = -np.log(np.maximum(right, np.finfo(np.float32).tiny))
        hits = probabilities.argmax(1) == labels
        sums = torch.tensor([entropies.sum(), hits.sum(), len(rows)], device=loader.device)
        loss, top1, number = mean(sums).tolist()
        return {"val_loss": loss / number, "val_top1": top1 / number}

    return validate


def _labels_facts(config: Config) -> Tree:
    """The choice of labels; a list counts by its content, wherever it lies."""
    labels = config.labels
    facts: Tree = {"percent": labels.percent, "seed": labels.seed}
    if labels.file is not None:
        facts = {"file": hashlib.sha256(Path(labels.file).read_bytes()).hexdigest()}
    if labels.validation:
        facts |= {"seed": labels.seed, "validation": labels.validation}
    return facts


def _settings(config: Config, manifest: Manifest, **parts: object) -> Tree:
    """What a run's result depends on, and nothing else."""
    machine = config.machine
    return {
        "data": manifest.digest,
        "backbone": config.backbone,
        "split": [config.labels.split, config.labels.split_number],
        "machine": {
            "seed": machine.seed,
            "order": machine.order,
            "engine": engine_name(machine.engine, machine.device),
            "num_threads": machine.num_threads,
        },
        **parts,
    }
