"""The settings on which a run's result depends: a run resumes only under the same settings."""

from pathlib import Path

from shards.errors import InputError
from shards.files.path_kinds import is_file
from shards.format.manifest import Manifest
from tb.config.differences import Tree
from tb.config.sections import Config
from tb.networks.backbones import backbone_identity
from tb.weights.checkpoint import file_digest


def run_settings(config: Config, manifest: Manifest, **parts: object) -> Tree:
    """The settings on which every stage depends, and those in `parts`."""
    machine, augmentation = config.machine, config.augmentation
    return {
        "data": manifest.digest,
        "backbone": backbone_identity(config.backbone),
        "split": [config.labels.split, config.labels.split_number],
        "machine": {
            "seed": machine.seed,
            "order": machine.order,
            "num_threads": machine.num_threads,
        },
        **config.input_settings(),
        **({} if augmentation is None else {"augmentation": augmentation}),
        **parts,
    }


def label_settings(config: Config) -> Tree:
    """The choice of labels. A list counts by its content, not by its path.

    Raises:
        InputError: The list is missing, or cannot be read.
    """
    labels = config.labels
    settings: Tree = {"percent": labels.percent, "seed": labels.seed}
    if labels.file is not None:
        if not is_file(Path(labels.file)):
            raise InputError(f"{labels.file}: no such list of labels; give another labels.file")
        settings = {"file": file_digest(Path(labels.file))}
    if labels.validation:
        settings |= {"seed": labels.seed, "validation": labels.validation}
    return settings
