"""skipped.jsonl: what a folder of shards leaves out, and why; one JSON object per line."""

import json
from collections.abc import Iterable
from typing import Any

from shards.files.store import Store

SKIPPED_NAME = "skipped.jsonl"
_MISSING_REASON = "missing: in the lists, not on disk"


def skipped_entry(source: str, key: str, reason: str, *, may_pass: bool) -> dict[str, Any]:
    """A bad video: `source` is its path relative to the root, `may_pass` as in TranscodeError."""
    return {"source": source, "key": key, "reason": reason, "may_pass": may_pass}


def write_skipped(store: Store, skipped: Iterable[dict[str, Any]], missing: Iterable[str]) -> None:
    """Writes the list where there is something to list.

    Args:
        store: the folder with the shards.
        skipped: bad videos, from `skipped_entry`.
        missing: what the data set's lists name and the disk lacks.
    """
    absent = [skipped_entry(name, "", _MISSING_REASON, may_pass=False) for name in missing]
    text = "".join(json.dumps(entry) + "\n" for entry in [*skipped, *absent])
    # Empty only over the list of an earlier run, which found nothing usable.
    if text or store.size(SKIPPED_NAME) is not None:
        store.put_bytes(SKIPPED_NAME, text.encode())


def read_skipped(store: Store) -> list[dict[str, Any]]:
    """The entries, bad videos before missing ones (which have no key)."""
    lines = (store.read(SKIPPED_NAME) or b"").decode().splitlines()
    # Lists of earlier versions say nothing of what may pass.
    return [{"may_pass": False, **json.loads(line)} for line in lines]
