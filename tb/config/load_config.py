"""Loads settings: the defaults, then a preset, then `--set`. A work folder remembers its settings.

An unknown key is refused with the nearest known one. The resolved settings are saved with each run.
"""

import difflib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from loaders.engines.engine import AUTO, EngineName
from shards.errors import InputError
from shards.files.lock import locked
from shards.files.path_kinds import is_file
from shards.files.publish import publish_bytes
from shards.files.text_file import read_text
from tb.config.differences import Tree
from tb.config.optim import LrSchedule
from tb.config.sections import Compile, Config, Machine

CONFIG = "config.yaml"
_PRESETS_PACKAGE = "tb.presets"
_PRESET_SUFFIXES = (".yaml", ".yml")
# Settings whose value may be a mapping. It is not a section, and it is replaced as a whole.
_MAPPINGS = {
    "backbone": "{OPTION: VALUE, ...}",
    "normalization": "{mean: [R, G, B], std: [R, G, B]}",
}


def load_config(preset: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """The settings of a run.

    Args:
        preset: Name of a file in tb/presets, or the path of a YAML file. None: the defaults.
        overrides: Assignments "section.key=value", with values in YAML.

    Raises:
        InputError: The preset or a key is unknown (the message suggests the nearest one), or a
            value is out of range, or it has no effect under the other settings.
    """
    tree = Config().model_dump()
    for name, changes in _preset_chain(preset):
        _merge(tree, changes, f"preset {name}")
    for text in overrides:
        _merge(tree, _assignment(text), f"--set {text}")
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"config {where} = {first['input']!r}: {first['msg']}") from None
    _refuse_two_strides(config)
    _refuse_hidden_labels(config)
    _refuse_unused(config)
    return config


def work_config(work: Path, preset: str | None, overrides: Sequence[str]) -> Config:
    """The settings for a work folder: the preset, or else those that the folder remembers.

    Args:
        work: The work folder; it may be missing.
        preset: As in `load_config`. None: the folder's own settings, or else the defaults.
        overrides: As in `load_config`; they come last.

    Raises:
        InputError: As in `load_config`.
    """
    path = work / CONFIG
    return load_config(str(path) if preset is None and is_file(path) else preset, overrides)


def remember_config(work: Path, config: Config) -> None:
    """Writes these settings to WORK/config.yaml, so that later commands need no preset."""
    path, text = work / CONFIG, dump_yaml(config)
    # Stages that run side by side share the folder.
    with locked(work / ".lock", f"{work}: another process holds it", patience_s=60):
        if not path.is_file() or path.read_text() != text:
            publish_bytes(path, text.encode())


def _refuse_two_strides(config: Config) -> None:
    """Raises InputError where a clip has both strides, or lacks the one that it needs."""
    for name, clips in (("pretrain", config.pretrain.clips), ("classify", config.classify.clips)):
        key = f"{name}.clips.stride"
        if clips.stride is not None and clips.stride_s is not None:
            raise InputError(
                f"{key} is {clips.stride} and {key}_s is {clips.stride_s:g}: --set {key}=null, or"
                f" {key}_s=null"
            )
    if config.pretrain.clips.stride is None and config.pretrain.clips.stride_s is None:
        raise InputError(
            "pretrain.clips.stride and pretrain.clips.stride_s are both null: --set one of them"
        )


def _refuse_hidden_labels(config: Config) -> None:
    """Raises InputError where hidden labels are read but not allowed, or allowed but not read."""
    rule = config.student.teachers
    if rule.reads_hidden_labels and not config.labels.with_hidden:
        raise InputError(
            f"student.teachers is {rule.value!r}, which reads the labels of unlabelled videos: for"
            " an analysis --set labels.with_hidden=true too, or choose other teachers"
        )
    if config.labels.with_hidden and not rule.reads_hidden_labels:
        raise InputError(
            f"labels.with_hidden is true, but student.teachers is {rule.value!r}, which reads no"
            " hidden labels: --set labels.with_hidden=false, or student.teachers=oracle"
        )


def _refuse_unused(config: Config) -> None:
    """Raises InputError where a changed setting has no effect because of another one."""
    machine, plain = config.machine, Machine()
    if machine.gpu_memory_mb is not None and not machine.tune:
        raise InputError(
            f"machine.gpu_memory_mb is {machine.gpu_memory_mb:g}, but it counts only while layouts"
            " are tried: --set machine.tune=true, or machine.gpu_memory_mb=null"
        )
    if machine.tune and machine.engine not in (AUTO, EngineName.DALI):
        raise InputError(
            f"machine.tune is true, but machine.engine is {machine.engine!r}, which has no layouts"
            " to try: --set machine.engine=dali, or machine.tune=false"
        )
    if machine.max_kept_batches is not None and machine.in_process:
        raise InputError(
            f"machine.max_kept_batches is {machine.max_kept_batches}, but it is for a loader"
            " process, and machine.in_process is true: --set machine.in_process=false, or"
            " machine.max_kept_batches=null"
        )
    if machine.compile_mode != plain.compile_mode and machine.compile == Compile.OFF:
        raise InputError(
            f"machine.compile_mode is {machine.compile_mode!r}, but machine.compile is 'off': --set"
            f" machine.compile=on, or machine.compile_mode={plain.compile_mode}"
        )
    if machine.max_bad_share != plain.max_bad_share and not machine.may_skip:
        raise InputError(
            f"machine.max_bad_share is {machine.max_bad_share:g}, but machine.on_error is 'raise',"
            " which ends training at the first bad video: --set machine.on_error=skip, or"
            f" machine.max_bad_share={plain.max_bad_share:g}"
        )
    for name in ("pretrain", "finetune", "student"):
        optim, defaults = getattr(config, name).optim, getattr(Config(), name).optim
        for key in ("patience", "plateau_steps", "plateau_threshold", "plateau_floor"):
            value, before = getattr(optim, key), getattr(defaults, key)
            if value != before and optim.schedule != LrSchedule.PLATEAU:
                raise InputError(
                    f"{name}.optim.{key} is {value}, but {name}.optim.schedule is"
                    f" {optim.schedule.value!r}, which has no {key}: --set"
                    f" {name}.optim.schedule=plateau, or {name}.optim.{key}={before}"
                )


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    files = resources.files(_PRESETS_PACKAGE).iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def dump_yaml(config: Config) -> str:
    """The resolved settings as YAML that `--preset FILE` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _preset_chain(preset: str | None) -> list[tuple[str, Tree]]:
    """The presets that a preset builds on (`base`: a preset, or a file beside it), then itself."""
    chain: list[tuple[str, Tree]] = []
    while preset is not None:
        if preset in [name for name, _ in chain]:
            raise InputError(f"preset {preset}: is its own base; remove that `base`")
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
        if not is_file(path):
            raise InputError(f"{preset}: no such preset file")
        text = read_text(path, "a preset is a YAML file with sections of settings")
    elif preset in preset_names():
        text = resources.files(_PRESETS_PACKAGE).joinpath(f"{preset}.yaml").read_text()
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
    first, dot, _ = key.partition(".")
    if dot and first in _MAPPINGS:
        raise InputError(
            f"--set {text}: {first} is one value; write --set '{first}={_MAPPINGS[first]}'"
        )
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return cast(Tree, tree)


def _merge(tree: Tree, changes: Tree, source: str, prefix: str = "") -> None:
    """Overwrites the leaves of `tree`; refuses keys that it does not have."""
    for key, value in changes.items():
        name = f"{prefix}{key}"
        if key not in tree:
            raise InputError(
                f"{source}: no setting {name!r}"
                f"{_elsewhere(str(key)) or _nearest(str(key), list(tree), prefix)}"
            )
        if isinstance(tree[key], dict) and name not in _MAPPINGS:
            if not isinstance(value, dict):
                inside = ", ".join(f"{name}.{inner}" for inner in tree[key])
                raise InputError(f"{source}: {name} is a section: set one of {inside}")
            _merge(tree[key], value, source, f"{name}.")
        else:
            tree[key] = value


def _elsewhere(key: str) -> str:
    """A hint that names the sections with this key; `optim.lr`, for example, is in three."""

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
