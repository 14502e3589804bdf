"""`tb config ...`: settings and presets."""

from pathlib import Path
from typing import Annotated

import typer

from tb.cli.options import Set

config_app = typer.Typer(no_args_is_help=True, help="Look at settings and presets.")


@config_app.command()
def show(
    preset: Annotated[str | None, typer.Argument(help="Preset's name or YAML file.")] = None,
    set_: Set = None,
) -> None:
    """The resolved settings as YAML; without a preset, the paper's."""
    from tb.config.load_config import dump_yaml, load_config

    typer.echo(dump_yaml(load_config(preset, set_ or [])), nl=False)


@config_app.command()
def diff(
    one: Annotated[str, typer.Argument(help="A preset's name, a YAML file, or a work folder.")],
    two: Annotated[str, typer.Argument(help="The same.")],
) -> None:
    """Where two sets of settings differ: one line each, by tabs."""
    from tb.config.differences import differences
    from tb.config.load_config import CONFIG, load_config

    files = [(name, Path(name) / CONFIG) for name in (one, two)]
    sources = [str(file) if file.is_file() else name for name, file in files]
    first, second = (load_config(source).model_dump(mode="json") for source in sources)
    for name, a, b in differences(first, second):
        typer.echo(f"{name}\t{a}\t{b}")


@config_app.command("presets")
def presets() -> None:
    """The presets that come with the package."""
    from tb.config.load_config import preset_names

    typer.echo("\n".join(preset_names()))
