"""Checkpoints: plain tensors and numbers, written whole or not at all, and never unpickled."""

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch

from loaders.plan.normalization import Normalization, normalization_name
from shards.counted import counted
from shards.errors import InputError
from shards.files.path_kinds import is_file
from shards.files.publish import publish_file, unfinished_file
from tb.config.differences import Tree
from tb.networks.backbones import Backbone
from tb.networks.heads import Classifier, Embedder

FORMAT = 1
CHECKPOINT = "checkpoint.pt"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes `state` under a temporary name, then renames it: a kill leaves the previous file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished_file(path) as unfinished:
        with unfinished.open("wb") as file:
            try:
                torch.save(_interned({"format": FORMAT, **state}), file)
            except RuntimeError as error:
                # Torch's own error hides the reason, such as a full disk.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
            file.flush()
            os.fsync(file.fileno())
        publish_file(unfinished, path)


def _interned(value: Any) -> Any:
    """The same tree, in which equal strings are one object.

    Pickle writes an object that it has met before as a reference. So without this, the file of a
    resumed run would differ in its bytes and digest from that of a run without a break.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {_interned(key): _interned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_interned(item) for item in value]
    return value


def keep_last(path: Path, step: int, num_kept: int) -> None:
    """Keeps the last `num_kept` checkpoints under numbered names.

    Args:
        path: The checkpoint that was just written.
        step: Its step, for its numbered name.
        num_kept: How many to keep. With 1, `path` is the only one.
    """
    if num_kept > 1:
        numbered = path.with_stem(f"{path.stem}-{step:08d}")
        numbered.unlink(missing_ok=True)
        try:
            os.link(path, numbered)  # a second name for the same bytes
        except OSError:  # the file system allows no such name; other errors come again here
            with unfinished_file(numbered) as unfinished:
                shutil.copyfile(path, unfinished)
                publish_file(unfinished, numbered)
    for older in sorted(path.parent.glob(f"{path.stem}-????????{path.suffix}"))[:-num_kept]:
        older.unlink()


def load_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Reads a checkpoint.

    Args:
        path: The file.
        mmap: Read tensors only when they are used, so that the rest is read quickly.

    Raises:
        InputError: The file is missing, not readable, or not a checkpoint of this program.
    """
    if not is_file(path):
        raise InputError(f"{path}: no such checkpoint; train that stage first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception:  # a damaged file can raise anything
        raise InputError(f"{path}: not a readable checkpoint; delete it, or give another") from None
    if not is_checkpoint(state):
        raise InputError(f"{path}: not a checkpoint of this program")
    loaded: dict[str, Any] = state
    return loaded


def is_checkpoint(state: Any) -> bool:
    """Whether the content of a file is a checkpoint of this program."""
    return isinstance(state, dict) and state.get("format") == FORMAT


def load_backbone(
    path: Path, state: dict[str, Any], backbone: Backbone, normalization: Normalization | None
) -> None:
    """Loads the backbone's weights out of any stage's checkpoint, strictly.

    Args:
        path: The checkpoint, for messages.
        state: Its content.
        backbone: Receives the weights.
        normalization: The normalization of the clips that the backbone will see.

    Raises:
        InputError: The checkpoint is of another backbone, of other input, or of an unfinished run.
    """
    _check_backbone(path, state, backbone)
    check_input(path, run_settings_of(state), normalization)
    _check_finished(path, state)
    prefix = "backbone."
    weights = {
        key.removeprefix(prefix): value
        for key, value in state["model"].items()
        if key.startswith(prefix)
    }
    with fitting(path, backbone):
        backbone.load_state_dict(weights)


def load_model(
    path: Path,
    model: Embedder | Classifier,
    *,
    classes: list[str],
    normalization: Normalization | None,
    unfinished: bool = False,
) -> None:
    """Loads a whole classifier or embedder, strictly.

    Args:
        path: The checkpoint.
        model: Receives the weights.
        classes: The data set's classes; [] for a self-supervised checkpoint.
        normalization: The normalization of the clips that the model will see.
        unfinished: Accept a run that has not reached its last step.

    Raises:
        InputError: The checkpoint is of another backbone, other input, other classes or an
            unfinished run, or it is not readable.
    """
    state = load_checkpoint(path)
    _check_backbone(path, state, model.backbone)
    check_input(path, run_settings_of(state), normalization)
    if not unfinished:
        _check_finished(path, state)
    if state["classes"] != classes:
        raise InputError(f"{path}: {_difference(state['classes'], classes)}")
    with fitting(path, model.backbone):
        model.load_state_dict(state["model"])


@contextmanager
def fitting(path: Path, backbone: Backbone) -> Iterator[None]:
    """Turns the error for weights of other names or shapes into an InputError with their file.

    Args:
        path: The file whose weights are loaded inside.
        backbone: The network that should fit them.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = shorten(" ".join(str(error).split()), 300)
        raise InputError(
            f"{path}: not the weights of backbone {backbone.identity!r} ({reason}); if its code has"
            " changed, go back to the code of that time, or train again in another --out"
        ) from error


def run_settings_of(state: dict[str, Any]) -> Tree:
    """The settings that a checkpoint's run depends on."""
    settings: Tree = json.loads(state.get("settings", "{}"))
    return settings


def check_input(path: Path, settings: Tree, normalization: Normalization | None) -> None:
    """Raises InputError where the weights were trained on clips of another normalization.

    Args:
        path: The weights' file.
        settings: What the file records of the input.
        normalization: The normalization of the clips that the weights will see.
    """
    values = settings.get("normalization")
    found = None if values is None else Normalization(**values)
    if found != normalization:
        name = normalization_name(found)
        raise InputError(
            f"{path}: trained with normalization {name}, but this run's is"
            f" {normalization_name(normalization)}; give another checkpoint or --set"
            f" {shlex.quote(f'normalization={name}')}"
        )


def _difference(found: list[str], wanted: list[str]) -> str:
    if not found:
        return "a self-supervised checkpoint, which has no classes; fine-tune it first"
    if not wanted:
        return "a classifier, where a self-supervised checkpoint is needed"
    if len(found) != len(wanted):
        num = counted(len(found), "class")
        return f"it has {num}, and this set has {len(wanted)}; train it on this set"
    label = next(label for label, name in enumerate(found) if name != wanted[label])
    return (
        f"its class {label} is {found[label]!r}, this set's is {wanted[label]!r}; train it on this"
        " set"
    )


def _check_backbone(path: Path, state: dict[str, Any], backbone: Backbone) -> None:
    found = state.get("backbone")
    if found != backbone.identity:
        setting = shlex.quote(f"backbone={found}")
        raise InputError(
            f"{path}: checkpoint of backbone {found!r}, but this run uses"
            f" {backbone.identity!r}; give another checkpoint or --set {setting}"
        )


def _check_finished(path: Path, state: dict[str, Any]) -> None:
    if state["step"] < state["steps"]:
        raise InputError(
            f"{path}: training stopped at step {state['step']} of {state['steps']}; run that "
            "stage's command again first"
        )


def file_digest(path: Path) -> str:
    """Hex sha256 of a file; InputError where it is missing or cannot be read."""
    if not is_file(path):
        raise InputError(f"{path}: no such checkpoint; train that stage first")
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; make it readable") from error
