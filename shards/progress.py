"""`Progress`: the type of the functions that show how far an ingestion or a verification is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called with (videos done, all videos, key)."""
