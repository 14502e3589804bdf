"""Short, dot-free, unique names for videos.

WebDataset splits the name of a tar member at its first dot, and USTAR has room for 100 characters.
So a key has at most 80 characters of [A-Za-z0-9_-]. Keys depend only on the set of (class, relative
path), not on the order in which a folder is listed.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

MAX_KEY_CHARS = 80
_HASH_CHARS = 16


def assign_keys(names: Sequence[tuple[str, str, str]]) -> list[str]:
    """One unique key for each video, in the same order.

    The key is the sanitised stem if no other video has it. Otherwise it is class and stem, and if
    that is not unique, the stem with a hash of the relative path.

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
        key if num_uses[key] == 1 else with_hash(stem, path)
        for key, stem, (_, _, path) in zip(prefixed, stems, names, strict=True)
    ]


def _sanitise(name: str) -> str:
    key = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    # A name that is not ASCII or too long may lose here what distinguishes it from others.
    if not name.isascii() or len(key) > MAX_KEY_CHARS:
        return with_hash(key, name)
    return key


def with_hash(key: str, name: str) -> str:
    """The key, cut if it is long, with a hash of a name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_CHARS]
    return f"{key[: MAX_KEY_CHARS - _HASH_CHARS - 1]}-{digest}"
