"""`tb split`: which videos keep their label, as a list beside the shards."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from shards.format.manifest import Manifest


Root = Annotated[str, typer.Argument(metavar="DIR", help="Finished shards: a folder or a URL.")]
Percent = Annotated[
    float | None,
    typer.Option("--fraction", help="Percentage of the labels to keep, above 0 up to 100."),
]
FromList = Annotated[Path | None, typer.Option(help="Use a public list instead of drawing one.")]
Seed = Annotated[int, typer.Option(help="Seed of the draw; fractions of one seed are nested.")]
Split = Annotated[str, typer.Option(help="train, or pool (HMDB51: all but test).")]
SplitNumber = Annotated[int, typer.Option(help="Which official split, from 1.")]
Groups = Annotated[
    bool, typer.Option("--groups", help="Keep the videos of a group together within a class.")
]
Out = Annotated[Path | None, typer.Option(help="The list file; default: beside the shards.")]


def split_command(
    root: Root,
    percent: Percent = None,
    from_list: FromList = None,
    seed: Seed = 0,
    split: Split = "train",
    split_number: SplitNumber = 1,
    groups: Groups = False,
    out: Out = None,
) -> None:
    """Choose the labelled videos: stratified, at least one per class, nested; or from a list."""
    from shards.errors import InputError
    from shards.format.manifest import read_manifest
    from shards.labels.label_list import label_list_text

    if (percent is None) == (from_list is None):
        raise InputError("tb split: give either --fraction or --from-list")
    manifest = read_manifest(root)
    rows = manifest.indices(split, split_number)
    where = f"{split} split {split_number} of {manifest.name}"
    if from_list is not None:
        labelled = _from_list(from_list, manifest, rows, where)
        name, how = f"labelled-{from_list.stem}", f"from {from_list.name}"
    else:
        assert percent is not None
        labelled = _drawn(manifest, rows, percent, seed, groups)
        name = f"labelled-{percent:g}pct-{split}{split_number}-seed{seed}"
        name, how = name + "-groups" * groups, f"{percent:g} %, seed {seed}"
        how += ", whole groups" * groups
    title = f"{labelled.sum()} labelled of {len(rows)} videos in {where} ({how})"
    if out is None and manifest.url:
        raise InputError("tb split: give --out FILE, because a list is always a local file")
    path = out or manifest.root / f"{name}.txt"
    _write(path, label_list_text(manifest, labelled, title))
    typer.echo(title)
    _print_classes(manifest, labelled, rows)
    _print_groups(manifest, labelled, rows, split_number)
    typer.echo(f"list    {path}")


def _from_list(path: Path, manifest: "Manifest", rows: "np.ndarray", where: str) -> "np.ndarray":
    import numpy as np

    from shards.errors import InputError
    from shards.labels.label_list import examples, match_label_list

    match = match_label_list(path, manifest)
    outside = np.setdiff1d(np.flatnonzero(match.labelled), rows)
    if len(outside):
        names = [manifest.keys[row] for row in outside]
        raise InputError(
            f"{path}: {len(outside)} entries are outside the {where} ({examples(names)}); choose"
            " another --split-number, or --split pool"
        )
    if match.unmatched:
        typer.echo(f"{len(match.unmatched)} entries match no video ({examples(match.unmatched)})")
    if match.contradicted:
        typer.echo(
            f"{len(match.contradicted)} entries have another label than the shards"
            f" ({examples(match.contradicted)}); the shards' labels count"
        )
    return match.labelled


def _drawn(
    manifest: "Manifest", rows: "np.ndarray", percent: float, seed: int, whole_groups: bool
) -> "np.ndarray":
    import numpy as np

    from shards.errors import InputError
    from shards.labels.fraction import label_fraction

    if not len(rows):
        raise InputError(f"{manifest.root}: that split has no videos; see `tb shards info`")
    keys = [manifest.keys[row] for row in rows]
    groups = None
    if whole_groups:
        groups = [manifest.groups[row] for row in rows]
        if not any(groups):
            raise InputError(f"{manifest.root}: no groups are known; leave out --groups")
    labelled = np.zeros(len(manifest), dtype=bool)
    labelled[rows] = label_fraction(keys, manifest.labels[rows], percent, seed, groups)
    return labelled


def _write(path: Path, text: str) -> None:
    from shards.errors import InputError
    from shards.files.publish import publish_bytes

    try:
        if path.exists() and path.read_bytes() != text.encode():
            raise InputError(f"{path}: holds another list; choose another --out, or delete it")
        publish_bytes(path, text.encode())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; choose another --out") from error


def _print_classes(manifest: "Manifest", labelled: "np.ndarray", rows: "np.ndarray") -> None:
    import numpy as np

    num_classes = len(manifest.classes)
    sizes = np.bincount(manifest.labels[rows], minlength=num_classes)
    counts = np.bincount(manifest.labels[labelled], minlength=num_classes)
    held = counts[sizes > 0]
    typer.echo(f"per class {held.min()} to {held.max()} labelled")
    for label in np.flatnonzero((counts == 0) & (sizes > 0)):
        typer.echo(f"warning: class {manifest.classes[label]} has no labelled video")


def _print_groups(
    manifest: "Manifest", labelled: "np.ndarray", rows: "np.ndarray", number: int
) -> None:
    import numpy as np

    from shards.labels.label_list import shared_groups

    if not any(manifest.groups):
        typer.echo("groups  unknown")
        return
    parts = {
        "labelled": np.flatnonzero(labelled),
        "unlabelled": rows[~labelled[rows]],
        "val": manifest.indices("val", number),
        "test": manifest.indices("test", number),
    }
    pairs = shared_groups(manifest, {name: part for name, part in parts.items() if len(part)})
    typer.echo("groups  " + ", ".join(f"{n} in both {one} and {two}" for one, two, n in pairs))
