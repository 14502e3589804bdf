"""`tb doctor`: what is here, what will be used and why, and what is missing."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from tb import api
from tb.cli.next_command import say_next
from tb.cli.printing import result_console


def doctor_command(
    folder: Annotated[
        Path, typer.Argument(help="A folder on the disk of the shards; 64 MiB are tried there.")
    ] = Path(),
) -> None:
    """Say what this machine has, what will be used and why, and what is missing."""
    # `found` and `so` share a column, because narrower columns would break commands in two.
    table = Table("", "what", "found; what follows", box=None, pad_edge=False)
    facts = api.doctor(folder)
    for one in facts:
        table.add_row("!" if one.is_missing else "", one.name, f"{one.found}; {one.so}")
    result_console().print(table)
    if any(one.is_missing for one in facts):
        typer.echo("! is missing here: see its line")
    say_next("demo")
