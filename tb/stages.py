"""The stages of the method, each as a `Stage` for the one training loop.

A work folder holds them side by side:

    WORK/invariant  distinctive  tclr                      stage 1, self-supervised
    WORK/finetune-invariant  finetune-distinctive          stage 2, on the labelled subset
    WORK/student                                           stage 3
    WORK/supervised                                        the baseline: stage 3 without teachers
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from loaders import views
from loaders.batch import Batch, Loader, engine_name, open_loader
from loaders.subset import Subset
from shards.errors import InputError
from shards.manifest import Manifest
from tb import losses
from tb.checkpoint import CHECKPOINT, check_finished, file_digest, load_backbone, load_model
from tb.config import Classify, Config, Optim, Tree
from tb.distributed import gather, join
from tb.models import Classifier, Embedder, build_backbone, to_channels_last
from tb.similarity import TEACHERS, cached_similarity, similarity_key
from tb.train import Stage

SELF_SUPERVISED = ("invariant", "distinctive", "tclr")


def finetuned(teacher: str) -> str:
    """Folder name of a fine-tuned teacher."""
    return f"finetune-{teacher}"


NAMES = (*SELF_SUPERVISED, *map(finetuned, TEACHERS), "supervised", "student")


def pretrain_stage(kind: str, manifest: Manifest, config: Config) -> Stage:
    """Stage 1: L_I ("invariant"), L_D1 + L_D2 ("distinctive"), or all three ("tclr")."""
    optim = config.pretrain.optim
    spec = pretrain_views(config)
    loader = _loader(manifest, spec, config.labels.subset("all"), config, optim)
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
    model = _classifier(manifest, config)
    load_backbone(init, model.backbone, config.backbone)
    check_finished(init)
    return _supervised(
        finetuned(teacher), model, manifest, config, config.finetune.optim, file_digest(init)
    )


def supervised_stage(manifest: Manifest, config: Config) -> Stage:
    """The baseline: the student's network and budget, from scratch on the labelled videos alone."""
    model = _classifier(manifest, config)
    return _supervised("supervised", model, manifest, config, config.student.optim, "scratch")


def _supervised(
    name: str, model: Classifier, manifest: Manifest, config: Config, optim: Optim, init: str
) -> Stage:
    loader = _loader(
        manifest, _clip_views(config.classify), config.labels.subset("labelled"), config, optim
    )

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        (batch,) = batches
        return {"loss": functional.cross_entropy(model(batch.views["clip"]), batch.labels)}

    return Stage(
        name=name,
        model=model,
        backbone=config.backbone,
        classes=list(manifest.classes),
        optim=optim,
        loaders=(loader,),
        loss=loss,
        settings=_settings(
            config,
            manifest,
            labels=_labels_facts(config),
            classify=config.classify.model_dump(mode="json"),
            optim=optim.model_dump(mode="json"),
            init=init,
        ),
    )


def student_stage(manifest: Manifest, config: Config, work: Path) -> Stage:
    """Stage 3: L_sup + omega L_unsup, the frozen teachers mixed per video by similarity."""
    optim = config.student.optim
    spec = _clip_views(config.classify)
    labelled = _loader(manifest, spec, config.labels.subset("labelled"), config, optim)
    unlabelled = _loader(manifest, spec, config.labels.subset("unlabelled"), config, optim)
    device = labelled.device
    teachers = [_frozen_teacher(work, name, manifest, config, device) for name in TEACHERS]
    similarity = cached_similarity(manifest, config, work)
    model = _classifier(manifest, config)
    init = _init(model, config, work)

    def loss(batches: tuple[Batch, ...]) -> dict[str, Tensor]:
        clips = torch.cat([batch.views["clip"] for batch in batches])
        rows = torch.cat([torch.from_numpy(batch.plan.rows) for batch in batches])
        with torch.no_grad():
            invariant, distinctive = (net(clips).float().softmax(-1) for net in teachers)
            target = losses.mix_teachers(invariant, distinctive, similarity[rows].to(device))
        logits = model(clips).float()
        labels = batches[0].labels
        supervised = functional.cross_entropy(logits[: len(labels)], labels)
        distance = losses.distillation_loss(logits, target, config.student.distance)
        total = supervised + config.student.omega * distance
        return {"loss": total, "L_sup": supervised, "L_unsup": distance}

    return Stage(
        name="student",
        model=model,
        backbone=config.backbone,
        classes=list(manifest.classes),
        optim=optim,
        loaders=(labelled, unlabelled),
        loss=loss,
        settings=_settings(
            config,
            manifest,
            labels=_labels_facts(config),
            classify=config.classify.model_dump(mode="json"),
            student=config.student.model_dump(mode="json"),
            teachers=[file_digest(work / finetuned(name) / CHECKPOINT) for name in TEACHERS],
            similarity=similarity_key(manifest, config, work),
            init=init,
        ),
    )


def _frozen_teacher(
    work: Path, name: str, manifest: Manifest, config: Config, device: torch.device
) -> Classifier:
    path = work / finetuned(name) / CHECKPOINT
    model = _classifier(manifest, config)
    load_model(path, model, backbone=config.backbone, classes=list(manifest.classes))
    check_finished(path)
    return model.to(device).eval().requires_grad_(False)


def _classifier(manifest: Manifest, config: Config) -> Classifier:
    torch.manual_seed(config.machine.seed)
    backbone = build_backbone(config.backbone)
    model = Classifier(backbone, len(manifest.classes), config.classify.dropout)
    to_channels_last(model)
    return model


def _init(model: Classifier, config: Config, work: Path) -> str:
    """Starts the backbone as `student.init` says; returns what identifies that start."""
    init = config.student.init
    if init == "scratch":
        return init
    path = work / init / CHECKPOINT if init in SELF_SUPERVISED else Path(init)
    load_backbone(path, model.backbone, config.backbone)
    check_finished(path)
    return file_digest(path)


def pretrain_views(config: Config) -> views.ViewSpec:
    """The long and short views of stage 1."""
    clips = config.pretrain.clips
    return views.pretrain(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def _clip_views(classify: Classify) -> views.ViewSpec:
    clips = classify.clips
    return views.finetune(
        num_frames=clips.num_frames,
        stride=clips.stride,
        size_px=clips.size_px,
        augment=clips.augment,
    )


def _loader(
    manifest: Manifest, spec: views.ViewSpec, subset: Subset, config: Config, optim: Optim
) -> Loader:
    world = join()
    return open_loader(
        manifest,
        spec,
        subset=subset,
        batch_size=optim.piece_size(world.size),
        engine=config.machine.engine,
        device=world.device(config.machine.device),
        seed=config.machine.seed,
        rank=world.rank,
        world_size=world.size,
        num_workers=config.machine.num_workers,
    )


def _labels_facts(config: Config) -> Tree:
    """The choice of labels; a list counts by its content, wherever it lies."""
    labels = config.labels
    if labels.file is None:
        return {"percent": labels.percent, "seed": labels.seed}
    return {"file": hashlib.sha256(Path(labels.file).read_bytes()).hexdigest()}


def _settings(config: Config, manifest: Manifest, **parts: object) -> Tree:
    """What a run's result depends on, and nothing else."""
    machine = config.machine
    return {
        "data": manifest.digest,
        "backbone": config.backbone,
        "split": [config.labels.split, config.labels.split_number],
        "machine": {
            "seed": machine.seed,
            "engine": engine_name(machine.engine),
            "num_threads": machine.num_threads,
        },
        **parts,
    }
