"""How many videos a class must have."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from shards.counted import counted
from shards.errors import InputError


def check_class_sizes(
    origin: Path, names: Iterable[str], names_of_videos: Iterable[str], min_per_class: int
) -> None:
    """Checks that every class has enough videos, and at least one.

    Args:
        origin: The folder or table, for messages.
        names: The names of all classes.
        names_of_videos: The name of each video's class.
        min_per_class: How many videos are enough.

    Raises:
        InputError: A class has fewer.
    """
    sizes = Counter(names_of_videos)
    for name in sorted(names):
        if sizes[name] < max(min_per_class, 1):
            ways = "add videos or remove the class"
            if sizes[name]:
                ways += ", or accept it with --min-per-class 1"
            raise InputError(
                f"{origin}: class {name!r} has {counted(sizes[name], 'video')}, needs"
                f" {max(min_per_class, 1)}: {ways}"
            )
