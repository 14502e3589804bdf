"""Short, dot-free, unique names for videos.

WebDataset splits a tar member's name at its first dot, and USTAR holds 100 characters, so a key is
at most 80 characters of [A-Za-z0-9_-]. A key is a function of the set of (class, relative path)
alone; the order of a directory listing has no say.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

MAX_KEY_CHARS = 80
_HASH_CHARS = 16


def assign_keys(names: Sequence[tuple[str, str, str]]) -> list[str]:
    """One unique key per video, in the order given.

    The sanitised stem where no other video has it; else class and stem; else the stem with a hash
    of the relative path.

    Args:
        names: (class name, stem, path relative to the root) of each video; the paths are unique.
    """
    stems = [_sanitise(stem) for _, stem, _ in names]
    num_uses = Counter(stems)
    prefixed = [
        stem if num_uses[stem] == 1 else _sanitise(f"{class_name}_{name}")
        for stem, (class_name, name, _) in zip(stems, names, strict=True)
    ]
    num_uses = Counter(prefixed)
    return [
        key if num_uses[key] == 1 else _with_hash(stem, path)
        for key, stem, (_, _, path) in zip(prefixed, stems, names, strict=True)
    ]


def _sanitise(name: str) -> str:
    key = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    # What a non-ASCII or over-long name loses here is what tells it from its neighbours.
    if not name.isascii() or len(key) > MAX_KEY_CHARS:
        return _with_hash(key, name)
    return key


def _with_hash(key: str, name: str) -> str:
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_CHARS]
    return f"{key[: MAX_KEY_CHARS - _HASH_CHARS - 1]}-{digest}"
