"""The command line, `tb`: each command parses its options, calls `tb.api` and prints the result.

Here: options, their help, what is printed, and exit codes.
Not here: the work itself (`tb.api`).

Commands import heavy modules when they run, so that `tb --help` answers at once. An `InputError`
becomes one line and exit code 2, without a traceback, because the user can correct its cause.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from shards.errors import InputError
from tb import log_output
from tb.cli.config import config_app
from tb.cli.data import data_app
from tb.cli.demo import demo_command
from tb.cli.doctor import doctor_command
from tb.cli.evaluate import evaluate_command
from tb.cli.export import export_command
from tb.cli.group import CommandGroup, Group
from tb.cli.inspect import inspect_app
from tb.cli.predict import predict_command
from tb.cli.probes import probe_app, retrieve_command
from tb.cli.report import report_command, views_command
from tb.cli.reproduce import reproduce_command
from tb.cli.runs import runs_app
from tb.cli.shard import shard_app
from tb.cli.split import split_command
from tb.cli.train import train_app
from tb.registry import import_modules
from tb.version import version_text

# The commands are in the order of the work, and the help keeps this order.
PANELS: dict[str, dict[str, typer.Typer | Callable[..., None]]] = {
    "Begin": {"demo": demo_command, "doctor": doctor_command},
    "Data": {
        "shard": shard_app,
        "data": data_app,
        "views": views_command,
        "split": split_command,
    },
    "Train": {"config": config_app, "train": train_app, "reproduce": reproduce_command},
    "Look and compare": {
        "eval": evaluate_command,
        "probe": probe_app,
        "retrieve": retrieve_command,
        "report": report_command,
        "runs": runs_app,
        "inspect": inspect_app,
    },
    "Use": {"predict": predict_command, "export": export_command},
}
"""Panel of the help -> name of a command -> the command or the group."""


class _InOrder(CommandGroup):
    """The commands in the order of PANELS: Typer would show groups after the others."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [name for commands in PANELS.values() for name in commands]


app = Group(
    cls=_InOrder,
    pretty_exceptions_enable=False,
    help="Semi-supervised action recognition: TimeBalance, from a folder of videos to accuracy.",
)
for _panel, _commands in PANELS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_panel)
        else:
            app.command(_name, rich_help_panel=_panel)(_command)


@app.callback(invoke_without_command=True)
def _before_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and the commit.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Module with your own registered backbone, augmentation or method.",
        ),
    ] = None,
) -> None:
    if version:
        typer.echo(version_text())
        raise typer.Exit
    import_modules(modules or ())


def main() -> None:
    """Entry point of `tb`."""
    # OpenMP reads this variable when torch loads. Without it, idle OpenMP threads spin, and a step
    # becomes many times slower if the loader or another program needs their cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    log_output.show()
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
