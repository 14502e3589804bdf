"""Where the shards of a work folder are: WORK/data.json remembers it."""

import json
from pathlib import Path

from shards.errors import InputError
from shards.files.publish import publish_bytes
from shards.format.dataset_json import state_name
from shards.format.manifest import Manifest, read_manifest

DATA = "data.json"


def remember_data(work: Path, manifest: Manifest) -> None:
    """Writes where these shards are to WORK/data.json, so that `tb views WORK` finds them."""
    path = work / DATA
    shards = manifest.url or str(manifest.root.resolve())
    text = json.dumps({"shards": shards, "digest": manifest.digest}, indent=2) + "\n"
    if not path.is_file() or path.read_text() != text:
        publish_bytes(path, text.encode())


def remembered_data(work: Path) -> Manifest:
    """The shards that the runs in a work folder were trained on.

    Raises:
        InputError: WORK remembers no shards, or they no longer exist, or other shards are in their
            place. Videos that were added since then (`tb shard --append`) are no error.
    """
    path = work / DATA
    try:
        content = json.loads(path.read_text())
        shards, digest = str(content["shards"]), content["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"{path}: does not say where the shards are; give a work folder in which a stage was"
            " trained, or name the shards (--shards)"
        ) from None
    try:
        return read_manifest(f"{shards}@{digest}")
    except InputError as error:
        raise InputError(
            f"{error}; {path} says that {work} was trained on it: name the shards (--shards)"
        ) from None


def other_data(manifest: Manifest, digest: str) -> str | None:
    """What to say to the user if a result belongs to other data than `manifest`.

    Args:
        manifest: The shards that the user named.
        digest: The digest of the data that the result belongs to.

    Returns:
        A clause that names the state to give; None if the shards have no state with this digest.
    """
    name = state_name(manifest.where, digest)
    if name is None:
        return None
    return f"videos were added to the shards since then: give --shards {name}"
