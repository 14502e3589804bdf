"""Files with one JSON object a line. Several processes may add lines to the same file."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Adds a line, with one write; the file is created if missing.

    Raises:
        OSError: It cannot be written. A full disk may leave a part of the line.
    """
    data = (json.dumps(value) + "\n").encode()
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data  # the last line was cut short
        file.write(data)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file, without lines that were cut short; [] where there is no file."""
    found = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
    return found
