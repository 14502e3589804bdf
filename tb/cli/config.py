"""`tb config ...`: settings and presets."""

from typing import Annotated

import typer

from tb import api
from tb.cli.choices import complete_preset
from tb.cli.options import Set

config_app = typer.Typer(no_args_is_help=True, help="Look at settings and presets.")


@config_app.command()
def show(
    preset: Annotated[
        str | None,
        typer.Argument(help="Preset's name or YAML file.", autocompletion=complete_preset),
    ] = None,
    set_: Set = None,
) -> None:
    """Print the resolved settings as YAML; without a preset, the paper's."""
    typer.echo(api.show_settings(preset, set_ or []), nl=False)


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


@config_app.command("presets")
def presets() -> None:
    """List the presets that come with the package."""
    typer.echo("\n".join(api.preset_names()))
