"""Commands in this process: a process of its own would import torch again for each of them.

That `main` prints an `InputError` as one line and exits with 2 is shown in `cli/test_commands`.
"""

import pytest
from typer.testing import CliRunner

from shards.errors import InputError
from tb.cli import app


def tb(*words: object) -> str:
    """What a command prints to stdout; it must succeed."""
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def complaint(*words: object) -> str:
    """The one line that a command is refused with."""
    with pytest.raises(InputError) as caught:
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)
