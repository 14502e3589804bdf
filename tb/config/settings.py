"""A run's settings: defaults (the paper's), a preset over them, `--set` over both.

Every value has one home here. Unknown keys are refused with the nearest known one, and the
resolved settings are saved with each run.
"""

import difflib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from loaders.plan.views import FINETUNE_AUGMENT, PRETRAIN_AUGMENT, WEAK_AUGMENT, Augment
from loaders.subset import Part, Subset
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.publish import publish_bytes

Tree = dict[str, Any]
CONFIG = "config.yaml"
PRESETS_PACKAGE = "tb.presets"
_PRESET_SUFFIXES = (".yaml", ".yml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Labels(_Section):
    """Which videos are for training, and whose labels may be used.

    `file` is a list of labelled videos (`tb split` makes or converts one) and goes before `percent`
    and `seed`. `split` "pool" is HMDB51's: all that is not for testing. `validation` is the share
    of the labelled videos that no classifier trains on: "plateau" and "best" then go by them.
    """

    percent: float = Field(20.0, gt=0, le=100)
    seed: int = Field(0, ge=0)
    file: str | None = None
    validation: float = Field(0.0, ge=0, lt=1)
    split: Literal["train", "pool"] = "train"
    split_number: int = Field(1, ge=1)

    def of_split(self, split: str) -> Subset:
        """All videos of a split."""
        return Subset(split=split, split_number=self.split_number)

    def subset(self, part: Part) -> Subset:
        """The training videos, or a part of them."""
        return Subset(
            split=self.split,
            split_number=self.split_number,
            part=part,
            percent=self.percent,
            label_seed=self.seed,
            label_list=self.file,
            validation=self.validation,
        )


class Clips(_Section):
    """Frames of one clip, and how it is augmented."""

    num_frames: int = Field(ge=4)
    stride: int = Field(ge=1)
    size_px: int = Field(ge=16)
    augment: Augment


class ClassifyClips(Clips):
    """With stride null a clip spans the whole video, whatever its length or frame rate."""

    stride: int | None = Field(ge=1)  # type: ignore[assignment]


class Optim(_Section):
    """Adam, linear warm-up, then "plateau" (halve when an epoch's loss has not improved for
    `patience` epochs), "cosine" (to zero at the last step) or "constant".

    A step takes `batch_size` videos over all processes together, `accumulate` pieces one after the
    other: the gradient is the mean over the pieces, but batch norm and the losses that compare
    videos see one piece at a time. `clip_norm` limits the gradient's norm. With `ema_decay` a
    running mean of the weights is what later stages and the evaluation read. So are, with `select`
    "best", the weights after the epoch with the lowest loss. An epoch's loss is the mean training
    loss, or under `labels.validation` that of the videos held out.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    warmup_steps: int = Field(0, ge=0)
    schedule: Literal["plateau", "cosine", "constant"] = "plateau"
    patience: int = Field(5, ge=1)
    accumulate: int = Field(1, ge=1)
    clip_norm: float | None = Field(None, gt=0)
    ema_decay: float | None = Field(None, gt=0, lt=1)
    select: Literal["last", "best"] = "last"

    def piece_size(self, num_processes: int) -> int:
        """Videos of one stream that a process takes at a time; InputError where they don't divide.

        Args:
            num_processes: Among which each step's videos are shared.
        """
        num_pieces = num_processes * self.accumulate
        if self.batch_size % num_pieces:
            raise InputError(
                f"optim.batch_size is {self.batch_size}, for {num_processes} process(es) and "
                f"{self.accumulate} accumulated piece(s): give a multiple of {num_pieces}"
            )
        return self.batch_size // num_pieces


class Pretrain(_Section):
    """Stage 1, for both self-supervised teachers."""

    clips: Clips = Clips(num_frames=16, stride=1, size_px=224, augment=PRETRAIN_AUGMENT)
    optim: Optim = Optim(
        steps=100_000, batch_size=40, warmup_steps=2_400, weight_decay=1e-9, patience=5
    )
    temperature: float = Field(0.1, gt=0)
    pooled_reduction: Literal["mean", "sum"] = "mean"


class Classify(_Section):
    """Input and classifier of stages 2 to 4."""

    clips: ClassifyClips = ClassifyClips(
        num_frames=8, stride=2, size_px=224, augment=FINETUNE_AUGMENT
    )
    dropout: float = Field(0.5, ge=0, lt=1)


class Finetune(_Section):
    """Stage 2: a teacher on the labelled subset."""

    optim: Optim = Optim(steps=20_000, batch_size=16, warmup_steps=1_200)


class Student(_Section):
    """Stage 3; `batch_size` counts labelled videos, and as many unlabelled ones come with them.

    `omega` weighs the distance to the teachers' mixture. The released code has 100 x (unlabelled)
    and 50 x (labelled) a mean over batch and classes; with about 100 classes that is an omega of 1
    and 0.5 here. The supervised-only baseline takes the same `optim`, with no unlabelled videos.
    `teachers` says whom it learns from: both weighted by each video's temporal similarity (the
    paper), by that similarity stretched so that it runs from 0 to 1 over the training set, both
    equally, or one alone.
    """

    optim: Optim = Optim(steps=40_000, batch_size=16, warmup_steps=2_400)
    init: str = "tclr"
    teachers: Literal["similarity", "stretched", "equal", "invariant", "distinctive"] = "similarity"
    omega: float = Field(1.0, ge=0)
    distance: Literal["l2", "kl", "js"] = "l2"


class Baselines(_Section):
    """The semi-supervised baselines; steps, batches and start are the student's.

    `threshold` is the confidence from which a prediction counts as a label (pseudo-label, FixMatch)
    and `pseudo_label_weight` the weight of that loss; `weak` and `strong` augment FixMatch's pair.
    Mean Teacher weighs sum_k (p - q)^2 by `consistency_weight`, averages weights with `ema_decay`.
    """

    threshold: float = Field(0.95, ge=0, le=1)
    pseudo_label_weight: float = Field(1.0, ge=0)
    weak: Augment = WEAK_AUGMENT
    strong: Augment = PRETRAIN_AUGMENT
    consistency_weight: float = Field(10.0, ge=0)
    ema_decay: float = Field(0.99, gt=0, lt=1)


class Evaluation(_Section):
    """Stage 4."""

    split: Literal["train", "val", "test"] = "test"
    num_clips: int = Field(10, ge=1)
    num_crops: Literal[1, 3] = 1
    batch_size: int = Field(8, ge=1)


# To YAML, an unquoted on or off is a truth value.
_UNQUOTED = BeforeValidator(lambda x: {True: "on", False: "off"}[x] if isinstance(x, bool) else x)


class Machine(_Section):
    """How to run.

    Only `seed`, `order`, `engine`, `amp`, `compile`, `compile_mode`, `sync_bn` and `num_threads`
    can change a result. `order` is how training videos are shuffled: "windowed" reads eight shards
    at a time, for remote or spinning storage. `num_threads` are torch's own on the CPU (None: its
    default); `num_workers` are the loader's. `amp` "auto" is bfloat16 on GPUs that have it, float16
    on older ones, off on the CPU; `compile` "auto" is on for GPUs. `keep_last` checkpoints stay,
    under numbered names where it is more than one. `wandb` is a project's name. `tune` lets the
    DALI engine try a few layouts before a stage, within `gpu_memory_mb` of the GPU's memory.
    """

    seed: int = Field(0, ge=0)
    order: Literal["global", "windowed"] = "global"
    device: str = "auto"
    engine: str = "auto"
    num_workers: int | None = Field(None, ge=1)
    num_threads: int | None = Field(None, ge=1)
    tune: bool = False
    gpu_memory_mb: float | None = Field(None, gt=0)
    amp: Annotated[Literal["auto", "bf16", "fp16", "off"], _UNQUOTED] = "auto"
    compile: Annotated[Literal["auto", "on", "off"], _UNQUOTED] = "auto"
    compile_mode: Literal[
        "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"
    ] = "default"
    activation_checkpointing: bool = False
    sync_bn: bool = False
    checkpoint_steps: int = Field(100, ge=1)
    keep_last: int = Field(1, ge=1)
    tensorboard: bool = True
    wandb: str | None = None

    def limit_threads(self) -> None:
        """Gives torch its `num_threads`, for this process."""
        if self.num_threads is not None:
            import torch

            torch.set_num_threads(self.num_threads)


class Config(_Section):
    """All settings of the method; each stage reads its part."""

    backbone: str = "slow_r50"  # see `tb.networks.models.build_backbone`
    labels: Labels = Labels()
    pretrain: Pretrain = Pretrain()
    classify: Classify = Classify()
    finetune: Finetune = Finetune()
    student: Student = Student()
    baselines: Baselines = Baselines()
    evaluation: Evaluation = Evaluation()
    machine: Machine = Machine()


def load_config(preset: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The settings of a run.

    Args:
        preset: Name of a file in tb/presets, or the path of a YAML file; None for the defaults.
        overrides: "section.key=value" assignments, values in YAML.

    Raises:
        InputError: Unknown preset or key (the nearest one is suggested), or a value out of range.
    """
    tree = Config().model_dump()
    for name, changes in _preset_chain(preset):
        _merge(tree, changes, f"preset {name}")
    for text in overrides:
        _merge(tree, _assignment(text), f"--set {text}")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"config {where} = {first['input']!r}: {first['msg']}") from None


def work_config(work: Path, preset: str | None, overrides: Sequence[str]) -> Config:
    """The settings for a work folder: those it remembers, unless a preset is given; overrides last.

    Raises:
        InputError: As `load_config`.
    """
    path = work / CONFIG
    return load_config(str(path) if preset is None and path.is_file() else preset, overrides)


def remember_config(work: Path, config: Config) -> None:
    """Makes these settings WORK/config.yaml, so that later commands need no preset."""
    path, text = work / CONFIG, dump_yaml(config)
    # Stages that run side by side share the folder.
    with locked(work / ".lock", f"{work}: another process holds it", patience_s=60):
        if not path.is_file() or path.read_text() != text:
            publish_bytes(path, text.encode())


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    files = resources.files(PRESETS_PACKAGE).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def dump_yaml(config: Config) -> str:
    """The resolved settings as YAML that `--preset FILE` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _preset_chain(preset: str | None) -> list[tuple[str, Tree]]:
    """A preset after those that it builds on: `base` names another, or a file beside it."""
    chain: list[tuple[str, Tree]] = []
    while preset is not None:
        if preset in [name for name, _ in chain]:
            raise InputError(f"preset {preset}: is its own base; take that `base` out")
        tree = _read_preset(preset)
        chain.insert(0, (preset, tree))
        base = tree.pop("base", None)
        if base is None:
            break
        is_file = Path(str(base)).suffix in _PRESET_SUFFIXES
        preset = str(Path(preset).parent / base) if is_file else str(base)
    return chain


def _read_preset(preset: str) -> Tree:
    path = Path(preset)
    if path.suffix in _PRESET_SUFFIXES:
        if not path.is_file():
            raise InputError(f"{preset}: no such preset file")
        text = path.read_text()
    elif preset in preset_names():
        text = resources.files(PRESETS_PACKAGE).joinpath(f"{preset}.yaml").read_text()
    else:
        raise InputError(f"no preset {preset!r}{_nearest(preset, preset_names())}")
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"preset {preset}: not valid YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(tree, dict):
        raise InputError(f"preset {preset}: not a YAML mapping of sections")
    return tree


def _assignment(text: str) -> Tree:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"--set {text}: write it as section.key=value")
    try:
        tree: Any = yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"--set {text}: the value is not valid YAML") from None
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return cast(Tree, tree)


def _merge(tree: Tree, changes: Tree, source: str, prefix: str = "") -> None:
    """Overwrites leaves of `tree`, refusing keys that it lacks."""
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in tree:
            raise InputError(
                f"{source}: no setting {name!r}"
                f"{_elsewhere(str(key)) or _nearest(str(key), list(tree), prefix)}"
            )
        if isinstance(tree[key], dict):
            if not isinstance(value, dict):
                inside = ", ".join(f"{name}.{inner}" for inner in tree[key])
                raise InputError(f"{source}: {name} is a section: set one of {inside}")
            _merge(tree[key], value, source, f"{name}.")
        else:
            tree[key] = value


def _elsewhere(key: str) -> str:
    """Where a key is to be found, if in some section: an optim.lr in three."""

    def paths(tree: Tree, prefix: str = "") -> Iterator[str]:
        for name, value in tree.items():
            yield prefix + name
            if isinstance(value, dict):
                yield from paths(value, f"{prefix}{name}.")

    found = [repr(path) for path in paths(Config().model_dump()) if path.endswith(f".{key}")]
    return f"; did you mean {' or '.join(found)}?" if 0 < len(found) <= 4 else ""


def _nearest(name: str, known: list[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {prefix + close[0]!r}?"
    return f"; choose one of {', '.join(prefix + item for item in known)}"
