"""`tb split`: which videos keep their label, as a list beside the shards."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shards.counted import counted
from tb.cli.choices import LabelledSplitOption
from tb.cli.next_command import say_first_stage
from tb.cli.options import ShardsDir

if TYPE_CHECKING:
    from shards.labels.label_choice import LabelChoice


Percent = Annotated[
    float | None,
    typer.Option("--fraction", help="Percentage of the labels to keep, above 0 up to 100."),
]
FromList = Annotated[Path | None, typer.Option(help="Use a public list instead of drawing one.")]
LabelSeed = Annotated[int, typer.Option(help="Seed of the draw; fractions of one seed are nested.")]
Split = Annotated[
    LabelledSplitOption, typer.Option(help="The videos to choose from; pool: all but val and test.")
]
SplitNumber = Annotated[int, typer.Option(help="Which official split.", min=1)]
Groups = Annotated[
    bool, typer.Option("--groups", help="Keep the videos of a group together within a class.")
]
ListOut = Annotated[Path | None, typer.Option(help="The list file; default: beside the shards.")]


def split_command(
    root: ShardsDir,
    percent: Percent = None,
    from_list: FromList = None,
    seed: LabelSeed = 0,
    split: Split = LabelledSplitOption.TRAIN,
    split_number: SplitNumber = 1,
    groups: Groups = False,
    out: ListOut = None,
) -> None:
    """Choose the labelled videos: stratified, at least one per class, nested; or from a list."""
    from shards.errors import InputError
    from shards.format.manifest import read_manifest
    from shards.labels.label_choice import draw_labels, labels_from_list

    manifest = read_manifest(root)
    if percent is not None and from_list is None:
        choice = draw_labels(
            manifest,
            percent,
            seed=seed,
            split=split.value,
            split_number=split_number,
            whole_groups=groups,
        )
    elif from_list is not None and percent is None:
        if seed or groups:
            raise InputError(
                "--seed and --groups are for a draw (--fraction); leave them out with --from-list"
            )
        choice = labels_from_list(manifest, from_list, split=split.value, split_number=split_number)
    else:
        raise InputError("tb split: give either --fraction or --from-list")
    path = choice.write(out)
    _print_choice(choice)
    typer.echo(f"list    {path}")
    say_first_stage(root, settings=_settings(path, split, split_number))


def _print_choice(choice: "LabelChoice") -> None:
    from shards.errors import printable
    from shards.labels.label_list import examples

    if unmatched := choice.unmatched:
        typer.echo(
            f"{counted(len(unmatched), 'entry')} without a video in the shards"
            f" ({examples(unmatched)})"
        )
    if contradicted := choice.contradicted:
        typer.echo(
            f"{counted(len(contradicted), 'entry')} with another label than in the shards"
            f" ({examples(contradicted)}); the shards' labels count"
        )
    typer.echo(choice.title)
    counts = choice.num_per_class()
    typer.echo(f"per class {min(counts.values())} to {max(counts.values())} labelled")
    for name, count in counts.items():
        if not count:
            typer.echo(f"warning: class {printable(name)} has no labelled video")
    pairs = choice.shared_groups()
    texts = [f"{num} in both {one} and {other}" for one, other, num in pairs]
    known = any(choice.manifest.groups)
    typer.echo("groups  " + (", ".join(texts) if known else "unknown"))


def _settings(path: Path, split: LabelledSplitOption, split_number: int) -> list[str]:
    """The settings with which training uses the list."""
    settings = [f"labels.file={_as_yaml(str(path))}"]
    if split != LabelledSplitOption.TRAIN:
        settings.append(f"labels.split={split.value}")
    if split_number != 1:
        settings.append(f"labels.split_number={split_number}")
    return settings


def _as_yaml(text: str) -> str:
    """The text as `--set` reads it back: quoted where YAML would take it for something else."""
    import yaml

    try:
        is_plain = yaml.safe_load(text) == text
    except yaml.YAMLError:
        is_plain = False
    return text if is_plain else json.dumps(text, ensure_ascii=False)
