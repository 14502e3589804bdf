"""The sources of videos on the command line: `tb shard SOURCE ...` and `tb data advise SOURCE ...`.

What each source needs is imported inside it, because `tb --help` must not wait for Arrow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shards.sources.source import Dataset

Root = Annotated[Path, typer.Option(help="The folder with the class folders.")]
MinPerClass = Annotated[int, typer.Option(help="Refuse classes with fewer videos.", min=1)]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Also follow links to videos outside the root.")
]
ShardsSeed = Annotated[
    int, typer.Option(help="Seed of the order in the shards and of random splits.", min=0)
]


@dataclass(frozen=True, kw_only=True)
class Given:
    """The videos that a user named.

    Attributes:
        dataset: The videos.
        words: The words that name them after `tb shard`: ["folder", "--root", "videos"].
    """

    dataset: "Dataset"
    words: list[str]


def commands_over_sources(app: typer.Typer, act: Callable[..., None], **how: type) -> None:
    """Adds a command for each source to `app`.

    Args:
        app: The commands' group.
        act: What the commands do: the first argument is a `Given`, the others are options. The
            help of a command shows the docstring below that of its source.
        how: More arguments for `app.command`.
    """
    for read in (folder, csv, ucf101, hmdb51, kinetics400):
        app.command(**how)(_command(read, act))  # type: ignore[arg-type]


def _command(read: "Callable[..., Dataset]", act: Callable[..., None]) -> Callable[..., None]:
    """A command that acts on the data set which `read` returns; it has the options of both."""
    given, *options_of_act = signature(act).parameters.values()

    def command(**options: object) -> None:
        chosen = {name: options[name] for name in signature(read).parameters}
        found = Given(dataset=read(**chosen), words=_words(read, chosen))
        rest = {option.name: options[option.name] for option in options_of_act}
        act(**{given.name: found}, **rest)

    parameters = {option.name: option for option in options_of_act} | dict(
        signature(read).parameters
    )
    # A signature must have required options first.
    ordered = sorted(parameters.values(), key=lambda p: p.default is not p.empty)
    command.__signature__ = signature(read).replace(  # type: ignore[attr-defined]
        parameters=[p.replace(kind=p.KEYWORD_ONLY) for p in ordered], return_annotation=None
    )
    command.__annotations__ = {p.name: p.annotation for p in ordered}
    command.__name__, command.__doc__ = read.__name__, f"{read.__doc__}\n\n{act.__doc__ or ''}"
    return command


def _words(read: "Callable[..., Dataset]", chosen: dict[str, object]) -> list[str]:
    """The words of the command line that choose this source; defaults are left out."""
    words = [read.__name__]
    for name, parameter in signature(read).parameters.items():
        value, option = chosen[name], "--" + name.replace("_", "-")
        if value == parameter.default:
            continue
        if value is True:
            words.append(option)
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [option, str(one)]
    return words


def folder(
    root: Root,
    test_percent: Annotated[
        float, typer.Option(help="Percentage of each class that becomes the test split.")
    ] = 0.0,
    seed: ShardsSeed = 0,
    min_per_class: MinPerClass = 2,
    follow_links: FollowLinks = False,
) -> "Dataset":
    """Class folders, optionally below train/, val/, test/ folders."""
    from shards.sources.folder import from_folder

    return from_folder(
        root,
        test_percent=test_percent,
        seed=seed if test_percent else 0,  # it also seeds the order in the shards
        min_per_class=min_per_class,
        follow_links=follow_links,
    )


def csv(
    csv: Annotated[
        Path,
        typer.Option(help="Table with columns path,label and optional split,group,start_s,end_s."),
    ],
    min_per_class: MinPerClass = 2,
) -> "Dataset":
    """The videos listed in a CSV file; paths are relative to the file's folder."""
    from shards.sources.table import from_csv

    return from_csv(csv, min_per_class=min_per_class)


def ucf101(
    root: Root,
    annotations: Annotated[
        Path | None,
        typer.Option(help="Folder of the official lists; they must agree with the files' names."),
    ] = None,
    follow_links: FollowLinks = False,
) -> "Dataset":
    """UCF101 as unpacked, with its three official splits; needs no list files."""
    from shards.sources.ucf101 import from_ucf101

    return from_ucf101(root, annotations, follow_links=follow_links)


def hmdb51(
    root: Root,
    annotations: Annotated[Path, typer.Option(help="Folder of the 153 official lists.")],
    follow_links: FollowLinks = False,
) -> "Dataset":
    """HMDB51 as unpacked, with its three official splits."""
    from shards.sources.hmdb51 import from_hmdb51

    return from_hmdb51(root, annotations, follow_links=follow_links)


def kinetics400(
    root: Annotated[
        Path, typer.Option(help="Folder with the videos, e.g. class/ID_START_END.mp4.")
    ],
    annotations: Annotated[
        list[Path],
        typer.Option(
            metavar="FILE", help="An official list; give it twice, for train.csv and val.csv."
        ),
    ],
    follow_links: FollowLinks = False,
) -> "Dataset":
    """Kinetics-400 as downloaded; videos that are missing are listed."""
    from shards.sources.kinetics400 import from_kinetics400

    return from_kinetics400(root, annotations, follow_links=follow_links)
