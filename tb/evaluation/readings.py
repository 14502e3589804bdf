"""The record of who looked at a split's labels with a trained stage: WORK/STAGE/evaluations.jsonl.

Held-out videos are for one reading: whoever chooses by a second one fits them. Reading again, with
other weights or settings, takes a word (`peek`), and stays on record.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from shards.errors import InputError
from tb.config.settings import Tree

LOG = "evaluations.jsonl"


def check_unread(folder: Path, what: str, split: str, source: Tree) -> None:
    """Raises InputError if the split was read, not as a peek, for anything but `source`.

    Args:
        folder: Of the stage.
        what: "eval", or the probe's name; each has one reading.
        split: Whose labels are asked for; the training videos' are free.
        source: What the result will depend on.
    """
    if split == "train":
        return
    for line in _readings(folder, split):
        # A reading that was cut short before its result was written may be repeated.
        if line["what"] == what and not line["peek"] and line["source"] != _digest(source):
            raise InputError(
                f"{folder}: split {split!r} was read on {line['at']} already ({what}), with other "
                f"weights or settings (top-1 {line['top1']:.1%}); held-out videos are for one "
                "reading: --peek-test reads them again, and the record says so"
            )


def log_reading(
    folder: Path, what: str, split: str, top1: float, source: Tree, *, peek: bool = False
) -> int:
    """Adds a line to the record; call it before anything else tells the result.

    Args:
        folder: Of the stage.
        what: As for `check_unread`.
        split: Whose labels were looked at.
        top1: What came out, in [0, 1].
        source: Of the result; its checkpoint and digest are noted.
        peek: Whether the reading was declared as one that does not count.

    Returns:
        How many peeks of this kind there were up to now.
    """
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "what": what,
        "split": split,
        "top1": top1,
        "checkpoint": source["checkpoint"],
        "source": _digest(source),
        "peek": peek,
    }
    with (folder / LOG).open("a") as file:
        file.write(json.dumps(line) + "\n")
    return sum(line["peek"] for line in _readings(folder, split) if line["what"] == what)


def num_readings(folder: Path, split: str) -> int:
    """How often the split was looked at with the stage in `folder`, whatever its weights."""
    return len(_readings(folder, split))


def _readings(folder: Path, split: str) -> list[Tree]:
    """The record's lines about a split."""
    path = folder / LOG
    lines = path.read_text().splitlines() if path.is_file() else []
    return [line for line in map(json.loads, lines) if line["split"] == split]


def _digest(source: Tree) -> str:
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
