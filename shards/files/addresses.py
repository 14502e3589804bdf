"""What a path or a URL means, and where unfinished files and copies of remote files lie."""

import os
import re
from pathlib import Path

# Inside a folder of shards, until the ingestion has finished.
SCRATCH_NAME = ".ingest"
_LOCAL_SCHEME = "file"


def local_path(root: Path | str) -> Path | None:
    """The folder on this machine that a path or a file:// URL means; None for other URLs."""
    url = remote_url(root)
    if url is None:
        return Path(root)
    scheme, _, path = url.partition("://")
    return Path(path) if scheme == _LOCAL_SCHEME else None


def remote_url(root: Path | str) -> str | None:
    """The URL that was given; None if it is a path."""
    # One slash is enough: pathlib turns s3://bucket into s3:/bucket.
    match = re.match(r"(?P<scheme>[a-z][a-z0-9+.-]+):/{1,3}(?P<rest>.*)", str(root))
    if not match:
        return None
    rest = match["rest"] if match["scheme"] != _LOCAL_SCHEME else f"/{match['rest']}"
    return f"{match['scheme']}://{rest}".rstrip("/")


def cache_root() -> Path:
    """The folder for copies of remote files: $TIMEBALANCE_CACHE or ~/.cache/timebalance."""
    if chosen := os.environ.get("TIMEBALANCE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "timebalance"
