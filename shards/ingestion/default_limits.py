"""Defaults of `ingest`.

This module imports nothing, because the command line names these values before it loads `ingest`.
"""

DEFAULT_SHARD_MB = 128
"""The largest size of a shard, MiB; a video that is larger gets its own shard."""
DEFAULT_TIME_LIMIT_S = 900.0
"""The time after which a video is skipped, seconds."""
