"""`tb config ...`: settings and presets."""

from pathlib import Path
from typing import Annotated

import typer

from shards.files.path_kinds import is_file
from tb import api
from tb.cli.choices import complete_preset
from tb.cli.group import Group
from tb.cli.next_command import places_of, say_next
from tb.cli.options import Set

config_app = Group(help="Look at settings and presets.")


@config_app.command()
def show(
    preset: Annotated[
        str | None,
        typer.Argument(
            help="A preset's name, a YAML file, or a work folder.", autocompletion=complete_preset
        ),
    ] = None,
    set_: Set = None,
) -> None:
    """Print the resolved settings as YAML; without a preset, the paper's."""
    typer.echo(api.show_settings(preset, set_ or []), nl=False)
    from tb.config.load_config import CONFIG

    if preset is not None and is_file(Path(preset, CONFIG)):
        say_next("runs", "ls", preset)
    else:
        say_next("train", "all", *places_of("SHARDS", "WORK", preset, set_))


@config_app.command()
def diff(
    one: Annotated[
        str,
        typer.Argument(
            help="A preset's name, a YAML file, or a work folder.", autocompletion=complete_preset
        ),
    ],
    two: Annotated[str, typer.Argument(help="The same.", autocompletion=complete_preset)],
) -> None:
    """Print the settings that differ: one per line, columns separated by tabs."""
    for name, a, b in api.compare_settings(one, two):
        typer.echo(f"{name}\t{a}\t{b}")
    say_next("config", "show", one)


@config_app.command("presets")
def presets() -> None:
    """List the presets that come with the package."""
    names = api.preset_names()
    typer.echo("\n".join(names))
    say_next("config", "show", names[0])
