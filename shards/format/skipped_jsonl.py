"""skipped.jsonl: the videos that a folder of shards leaves out, and why.

The file has one JSON object for each video. It lists the videos that cannot be used, and those that
the lists of the data set name but the disk does not have. `shards.ingestion.job` decides what is
left out, and what is tried again.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from shards.errors import InputError
from shards.files.size_limit import MAX_JSON_BYTES
from shards.files.store import Store

SKIPPED_NAME = "skipped.jsonl"
_MISSING_REASON = "missing: in the lists, not on disk"


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A video that was left out.

    Attributes:
        source: Its path, relative to the root of the data set.
        key: The key that it would have; "" if it is not on disk.
        reason: Why it was left out.
        may_pass: Whether another try may succeed with the same file.
    """

    source: str
    key: str
    reason: str
    may_pass: bool


def write_skipped(store: Store, skipped: Iterable[Skipped], missing: Iterable[str]) -> None:
    """Writes the list if there is something to list.

    Args:
        store: The folder with the shards.
        skipped: Videos that could not be used.
        missing: Names that the lists of the data set have and the disk does not.
    """
    absent = [
        Skipped(source=name, key="", reason=_MISSING_REASON, may_pass=False) for name in missing
    ]
    text = "".join(json.dumps(asdict(entry)) + "\n" for entry in [*skipped, *absent])
    # An empty list is written only to replace the list of an earlier run.
    if text or store.size(SKIPPED_NAME) is not None:
        store.put_bytes(SKIPPED_NAME, text.encode())


def read_skipped(store: Store) -> list[Skipped]:
    """The list: first the videos that could not be used, then those that are not on disk.

    Raises:
        InputError: The file is damaged or too large.
    """
    try:
        lines = (store.read(SKIPPED_NAME, MAX_JSON_BYTES) or b"").decode().splitlines()
        return [_parsed(json.loads(line)) for line in lines]
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(
            f"{store.name}/{SKIPPED_NAME}: unreadable ({error}); run `tb shard` again with another"
            " --out"
        ) from error


def _parsed(entry: dict[str, Any]) -> Skipped:
    skipped = Skipped(**entry)
    texts = (skipped.source, skipped.key, skipped.reason)
    if not all(isinstance(text, str) for text in texts) or not isinstance(skipped.may_pass, bool):
        raise TypeError("an entry has another type")
    return skipped
