"""What a path or a URL means, and where unfinished files and copies of remote files lie."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from shards.errors import InputError
from shards.files.path_kinds import exists

# It lies inside a folder of shards until the ingestion has finished.
SCRATCH_NAME = ".ingest"
_LOCAL_SCHEME = "file"


@dataclass(frozen=True, kw_only=True)
class SetAddress:
    """Where a set lies, and which of its states is meant.

    Attributes:
        root: The folder or URL.
        path: The folder on this machine; None if there is none.
        digest: The first 8 to 64 hex digits of an earlier state's digest; "" for the newest state.
    """

    root: Path | str
    path: Path | None
    digest: str


def local_path(root: Path | str) -> Path | None:
    """The folder on this machine that a path or a file:// URL means; None for other URLs."""
    url = remote_url(root)
    if url is None:
        return Path(root)
    scheme, _, path = url.partition("://")
    return Path(path) if scheme == _LOCAL_SCHEME else None


def remote_url(root: Path | str) -> str | None:
    """The URL that was given, with its scheme in lower case; None if it is a path.

    Raises:
        InputError: It is a chain of URLs, such as simplecache::s3://bucket, or it names no folder.
    """
    # One slash is enough: pathlib turns s3://bucket into s3:/bucket.
    pattern = r"(?P<chain>\S+::)?(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?P<rest>.*)"
    match = re.fullmatch(pattern, str(root), re.DOTALL)
    if not match:
        return None
    if not match["rest"].strip("/") and match["scheme"].lower() != _LOCAL_SCHEME:
        raise InputError(f"{root}: names no folder; give an address such as s3://bucket/set")
    if match["chain"] or "::" in match["rest"]:
        raise InputError(f"{root}: a chain of addresses; give one address, such as s3://bucket/set")
    scheme = match["scheme"].lower()
    rest = match["rest"] if scheme != _LOCAL_SCHEME else f"/{match['rest']}"
    return f"{scheme}://{rest}".rstrip("/")


def set_address(name: Path | str) -> SetAddress:
    """What the name of a set means: "data/mine@1a2b3c4d" is an earlier state of "data/mine".

    If there is a folder whose name ends with such digits, the name means this folder.

    Raises:
        InputError: See `remote_url`.
    """
    match = re.fullmatch(r"(?P<root>.+)@(?P<digest>[0-9a-f]{8,64})", str(name), re.DOTALL)
    path = local_path(name)
    if not match or (path is not None and exists(path)):
        return SetAddress(root=name, path=path, digest="")
    return SetAddress(root=match["root"], path=local_path(match["root"]), digest=match["digest"])


def check_local(path: Path, argument: str) -> None:
    """Raises InputError if the user gave a URL as `argument`, which takes only a local path."""
    if url := remote_url(path):
        raise InputError(f"{url}: is a URL; choose a path on this machine (--{argument})")


def cache_root() -> Path:
    """The folder for copies of remote files: $TIMEBALANCE_CACHE or ~/.cache/timebalance."""
    if chosen := os.environ.get("TIMEBALANCE_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "timebalance"
