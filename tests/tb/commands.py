"""Commands in this process, because a separate process would import torch for each of them.

If a test is about the process itself, `process` and `start` fork it from one that has the
libraries. `cli/test_commands` shows that `main` prints an `InputError` as one line and exits with
code 2.
"""

import os
import resource
import shlex
import sys
from collections.abc import Iterator
from inspect import Parameter, signature
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

import pytest
import typer.main
from typer.testing import CliRunner, Result

from shards.errors import InputError
from tb.cli import app
from tests.forks import FORKS, OUTPUTS, write_outputs
from tests.loaders.first_code import run_in_both


def run(*words: object, width: int | None = None) -> Result:
    """What a command does; it must succeed.

    Args:
        words: The command line.
        width: Columns of the terminal, where not the default.
    """
    env = None if width is None else {"COLUMNS": str(width), "TERMINAL_WIDTH": str(width)}
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, env=env)
    assert done.exit_code == 0, done.output
    return done


def tb(*words: object, width: int | None = None) -> str:
    """What a command prints to stdout; it must succeed."""
    return run(*words, width=width).stdout


def complaint(*words: object) -> str:
    """The one line that a command is refused with."""
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def usage_error(*words: object) -> str:
    """What a command line is refused with that names no command or value of the program."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 2, done.output
    # Without the box around the lines.
    return " ".join(done.stderr.replace("│", " ").split())


def process(*words: object, most_bytes: int | None = None) -> "CompletedProcess[str]":
    """What a command does in a process of its own.

    Args:
        words: The command line.
        most_bytes: The size that a file of the process may have.
    """
    with TemporaryDirectory() as name:
        child = start(*words, folder=Path(name), most_bytes=most_bytes)
        child.join()
        stdout, stderr = (Path(name, output).read_text() for output in OUTPUTS)
    assert child.exitcode is not None
    return CompletedProcess(words, child.exitcode, stdout, stderr)


def start(
    *words: object, folder: Path, most_bytes: int | None = None, first: str = ""
) -> BaseProcess:
    """The running process of a command, which writes "stdout" and "stderr" into `folder`.

    Args:
        words: The command line.
        folder: It exists.
        most_bytes: The size that a file of the process may have.
        first: Code that the process and its loader process run first.
    """
    line = [str(word) for word in words]
    child = FORKS.Process(target=_main, args=(line, dict(os.environ), folder, most_bytes, first))
    child.start()
    return child


def _main(
    line: list[str], environ: dict[str, str], folder: Path, most_bytes: int | None, first: str
) -> None:
    os.environ.clear()
    os.environ.update(environ)
    write_outputs(folder)
    if most_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    if first:
        run_in_both(first, folder / "first")
    run_here(*line)


def run_here(*line: str) -> None:
    """What `tb` does with the words of a command line, in this process."""
    from tb.cli import main

    sys.argv = ["tb", *line]
    main()


def next_words(stderr: str) -> list[str]:
    """The words after `tb` of the one line `Next: tb ...` in what a command wrote to stderr."""
    (line,) = [line for line in stderr.splitlines() if line.startswith("Next: ")]
    program, *words = shlex.split(line.removeprefix("Next: "))
    assert program == "tb"
    return words


def next_command(*words: object) -> list[str]:
    """The words after `tb` of the command that a command names; it must succeed."""
    done = run(*words)
    assert "Next: " not in done.stdout  # which may be data for a program
    return next_words(done.stderr)


def every_command(
    group: typer.Typer = app, prefix: str = ""
) -> Iterator[tuple[str, list[Parameter]]]:
    """Yields (words, parameters) of every command."""
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or typer.main.get_command_name(command.callback.__name__)
        yield prefix + name, list(signature(command.callback).parameters.values())
    for below in group.registered_groups:
        assert below.typer_instance is not None
        yield from every_command(below.typer_instance, f"{prefix}{below.name} ")
