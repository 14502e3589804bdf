"""What `ingest` does where the caller says nothing.

This module imports nothing, because the command line names these values before it loads `ingest`.
"""

DEFAULT_SHARD_MB = 128
"""The size of a shard, MiB."""
DEFAULT_TIME_LIMIT_S = 900.0
"""The time after which a video is given up."""
