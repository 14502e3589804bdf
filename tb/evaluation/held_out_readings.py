"""The record of the readings of a split with a trained stage: WORK/STAGE/evaluations.jsonl.

Held-out videos are for one reading, because a choice between the results of two readings is fitted
to these videos. A reading with other weights or settings must be declared (`peek`), and the record
keeps it.
"""

import hashlib
import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from shards.errors import InputError
from shards.files.json_lines import append_line, read_lines
from shards.format.splits import SplitName
from tb.config.differences import Tree

LOG = "evaluations.jsonl"


class Reading(StrEnum):
    """What a split is read for. Each purpose has one reading."""

    EVALUATION = "eval"
    KNN_PROBE = "probe knn"
    LINEAR_PROBE = "probe linear"
    RETRIEVAL = "retrieval"

    @property
    def probe_name(self) -> str:
        """A probe's name on the command line and in file names."""
        return self.value.removeprefix("probe ")


def check_unread(folder: Path, what: Reading, split: str, source: Tree) -> None:
    """Raises InputError if the split was already read for another result than that of `source`.

    Peeks do not count.

    Args:
        folder: The stage's folder.
        what: What the split is read for.
        split: The split to be read. Training videos may always be read.
        source: What the result will depend on.
    """
    if split == SplitName.TRAIN:
        return
    for line in _readings(folder, split):
        # A reading that was cut short before its result was written may be repeated.
        if line["what"] == what and not line["peek"] and line["source"] != _digest(source):
            raise InputError(
                f"{folder}: split {split!r} was read on {line['at']} already ({what}), with other"
                f" weights, data or settings (top-1 {line['top1']:.1%}); held-out videos are for"
                " one reading: peek_test (--peek-test) reads them again, and the record says so"
            )


def log_reading(
    folder: Path, what: Reading, split: str, top1: float, source: Tree, *, peek: bool = False
) -> int:
    """Adds a line to the record; call it before the result is shown or written anywhere.

    Args:
        folder: The stage's folder.
        what: As in `check_unread`.
        split: The split that was read.
        top1: The result, in [0, 1].
        source: What the result depends on; the line has its checkpoint and its digest.
        peek: Whether the reading was declared as one that does not count.

    Returns:
        The number of peeks for `what` so far.
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
    append_line(folder / LOG, line)
    return sum(line["peek"] for line in _readings(folder, split) if line["what"] == what)


def num_readings(folder: Path, split: str) -> int:
    """How often the split was read with the stage in `folder`, under any of its weights."""
    return len(_readings(folder, split))


def _readings(folder: Path, split: str) -> list[Tree]:
    """The lines of the record about a split."""
    return [line for line in read_lines(folder / LOG) if line["split"] == split]


def _digest(source: Tree) -> str:
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
