"""The command line, `tb`: each command parses its options, calls `tb.api` and prints the result.

Commands import heavy modules when they run, so that `tb --help` answers at once. An `InputError`
becomes one line and exit code 2, without a traceback, because the user can correct its cause.
"""

import os
import sys
from typing import Annotated

import typer

from shards.errors import InputError
from tb import messages
from tb.cli.config import config_app
from tb.cli.data import data_app
from tb.cli.demo import demo_command
from tb.cli.doctor import doctor_command
from tb.cli.evaluate import evaluate_command
from tb.cli.export import export_command
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

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Semi-supervised action recognition: TimeBalance, from a folder of videos to accuracy.",
)
app.add_typer(shard_app, name="shard")
app.add_typer(data_app, name="data")
app.command("split")(split_command)
app.add_typer(train_app, name="train")
app.command("eval")(evaluate_command)
app.add_typer(probe_app, name="probe")
app.command("retrieve")(retrieve_command)
app.add_typer(inspect_app, name="inspect")
app.command("predict")(predict_command)
app.command("export")(export_command)
app.command("report")(report_command)
app.command("reproduce")(reproduce_command)
app.command("views")(views_command)
app.add_typer(runs_app, name="runs")
app.add_typer(config_app, name="config")
app.command("demo")(demo_command)
app.command("doctor")(doctor_command)


@app.callback(invoke_without_command=True)
def _before_command(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and the commit.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import", help="Module with your own registered backbone, augmentation or method."
        ),
    ] = None,
) -> None:
    if version:
        typer.echo(version_text())
        raise typer.Exit
    import_modules(modules or ())


def main() -> None:
    """Entry point of `tb`."""
    # OpenMP reads it when torch loads. Threads that spin on cores that the loader or another
    # program needs make a step many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    messages.show()
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
