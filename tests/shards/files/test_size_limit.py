"""A file that is too large is refused before it is read, here and behind a URL."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.files.local_store import LocalStore
from shards.files.remote_store import RemoteStore
from shards.files.store import Store
from shards.format.dataset_json import DATASET_NAME, read_dataset_json
from shards.format.skipped_jsonl import SKIPPED_NAME, read_skipped
from shards.ingestion.journal import Journal, Settings
from tests.shards.helpers import fault_of


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_what_is_read_whole_has_a_limit(tmp_path: Path, kind: str) -> None:
    store: Store = LocalStore(tmp_path) if kind == "local" else RemoteStore("memory://size_limit")
    store.scratch.mkdir(parents=True, exist_ok=True)
    store.put_bytes("empty", b"")
    store.put_bytes("ten", b"0123456789")
    assert store.read("empty", 10) == b""
    assert store.read("ten", 10) == b"0123456789"
    assert store.read("none", 10) is None
    message = fault_of(store.read, "ten", 9)
    assert message.startswith(f"{store.name}/ten: has 10 bytes, and may have 9")


def test_every_file_has_a_limit(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    os.truncate(tmp_path / "any", 3 << 30)
    with pytest.raises(InputError, match="any: has 3221225472 bytes, and may have 2147483648"):
        LocalStore(tmp_path).read("any")


JSON_READERS: dict[str, Callable[[LocalStore], object]] = {
    DATASET_NAME: lambda store: read_dataset_json(store.name),
    SKIPPED_NAME: read_skipped,
    ".ingest/settings.json": lambda store: Journal(store).fingerprint(),
    ".ingest/shard-000000.json": lambda store: Journal(store).start(_SETTINGS),
}
_SETTINGS = Settings(fingerprint="", versions={})


@pytest.mark.parametrize("name", JSON_READERS)
def test_json_has_a_lower_limit(tmp_path: Path, name: str) -> None:
    (tmp_path / ".ingest").mkdir()
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, (128 << 20) + 1)
    message = fault_of(JSON_READERS[name], LocalStore(tmp_path))
    assert message.startswith(f"{tmp_path / name}: has 134217729 bytes, and may have 134217728")
