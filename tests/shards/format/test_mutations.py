"""After any change of a file, reading it gives an `InputError` or the right content."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from shards.errors import InputError
from shards.files import parquet
from shards.format.dataset_json import DATASET_NAME
from shards.format.earlier_states import MANIFEST_NAME
from shards.format.manifest import Manifest, content_digest, read_manifest
from shards.format.packet_index import packets_name
from shards.format.set_names import has_controls
from shards.format.video_table import SCHEMA
from shards.reader import ShardReader
from shards.summary import summarize

no_deadline = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = st.sampled_from(
    [
        *("../x", "../../../victim/x", "/etc/passwd", "shard-000000.tar\n", "shard-٣.tar"),
        *("\ud800", "", "a\0b"),
        *("x" * 9999, "evil\n5\n4\n3\n# x", "\x1b[2J", "a\u2028b"),
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(),
    st.text(max_size=20),
    NAMES,
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2), max_leaves=3) | (
    st.dictionaries(st.text(max_size=5), SCALARS, max_size=2)
)


@pytest.fixture(scope="module")
def copy(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shards; each example writes again the files that it changes."""
    return Path(shutil.copytree(manifest.root, tmp_path_factory.mktemp("copy") / "set"))


def _answer(root: Path | str) -> str:
    """ "" if all videos can be read; otherwise the error of whichever step refuses."""
    try:
        summarize(root)
        manifest = read_manifest(root)
        with ShardReader(manifest) as reader:
            for row in range(len(manifest)):
                reader.read_frames(row, 0, int(manifest.num_frames[row]) - 1)
    except InputError as error:
        return str(error)
    return ""


def _one_line(root: Path) -> str:
    message = _answer(root)
    assert "\n" not in message
    return message


def _places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every entry of a JSON document."""
    if not isinstance(document, dict | list):
        return [path]
    items = document.items() if isinstance(document, dict) else enumerate(document)
    return [path, *(place for key, value in items for place in _places(value, (*path, key)))][
        not path :
    ]


@no_deadline
@given(data=st.data())
def test_any_entry_of_dataset_json(manifest: Manifest, copy: Path, data: st.DataObject) -> None:
    document = json.loads((manifest.root / DATASET_NAME).read_text())
    *above, last = data.draw(st.sampled_from(_places(document)))
    inner = document
    for key in above:
        inner = inner[key]
    before, value = inner[last], data.draw(VALUES)
    inner[last] = value
    (copy / DATASET_NAME).write_text(json.dumps(document))
    shutil.copyfile(manifest.root / MANIFEST_NAME, copy / MANIFEST_NAME)
    message = _one_line(copy)
    field = [*above, last][0]
    # A stranger may claim these, and no others.
    assert message or field in _CLAIMS or value == before
    # A recipe has texts, numbers and nulls side by side.
    assert message or type(value) is type(before) or field == "recipe"
    assert message or not (isinstance(value, str) and has_controls(value))
    # Where dataset.json by itself is right, the manifest contradicts it, or a shard does.
    assert not message or str(field) in message or field in _COMPARED, message


def test_a_format_version_is_a_whole_number(manifest: Manifest, copy: Path) -> None:
    document = json.loads((manifest.root / DATASET_NAME).read_text())
    document["format_version"] = float(document["format_version"])
    (copy / DATASET_NAME).write_text(json.dumps(document))
    assert "format version 2.0, but this program reads version 2" in _answer(copy)


_CLAIMS = ("name", "classes", "recipe", "seed", "versions", "num_missing", "shards")
_COMPARED = ("digest", "manifest_sha256", "num_videos", "classes", "shards", "format_version")


def _publish(root: Path, content: bytes) -> None:
    """Writes a manifest.parquet and its digest into dataset.json, as a forger would."""
    (root / MANIFEST_NAME).write_bytes(content)
    document = json.loads((root / DATASET_NAME).read_text())
    document["manifest_sha256"] = hashlib.sha256(content).hexdigest()
    (root / DATASET_NAME).write_text(json.dumps(document))


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


@no_deadline
@given(
    column=st.sampled_from(SCHEMA.names),
    row=st.integers(0, 9),
    text=st.text(st.characters(codec="utf-8"), max_size=70),
    number=st.integers(-(2**63), 2**63 - 1),
)
def test_any_value_of_any_row(
    manifest: Manifest, copy: Path, column: str, row: int, text: str, number: int
) -> None:
    kind = SCHEMA.field(column).type
    values = manifest.table.column(column).to_pylist()
    before = values[row]
    values[row] = number if kind == pa.int64() else text if kind == pa.string() else [text]
    assume(values[row] != before)
    place = SCHEMA.get_field_index(column)
    changed = manifest.table.set_column(place, SCHEMA.field(column), pa.array(values, kind))
    shutil.copyfile(manifest.root / DATASET_NAME, copy / DATASET_NAME)
    _publish(copy, _parquet(changed.replace_schema_metadata({"digest": manifest.digest})))
    message = _one_line(copy)
    # A wrong place, digest or length is noticed. Others may have another value of their kind.
    assert message or column not in ("shard", "offset", "sha256", "num_frames", "splits")
    # The row or its key is named, except where one row alone does not show it.
    named = (f"row {row}: {column} must not be", manifest.keys[row])
    named += ("the rows give num_frames", "the rows give counts")
    if column == "offset":  # the video then reaches beyond its shard
        named += (f"row {row}: size must not be",)
    assert not message or any(words in message for words in named), message


@no_deadline
@given(column=st.sampled_from(SCHEMA.names), values=st.lists(SCALARS, min_size=10, max_size=10))
def test_a_column_of_another_type(
    manifest: Manifest, copy: Path, column: str, values: list[object]
) -> None:
    texts = [str(value).encode("utf-8", "replace") for value in values]
    place = SCHEMA.get_field_index(column)
    changed = manifest.table.set_column(place, column, pa.array(texts, pa.binary()))
    shutil.copyfile(manifest.root / DATASET_NAME, copy / DATASET_NAME)
    _publish(copy, _parquet(changed.replace_schema_metadata({"digest": manifest.digest})))
    assert f"{MANIFEST_NAME}: unreadable (its column {column} " in _one_line(copy)


def _changed_bytes(data: st.DataObject, content: bytes) -> bytes:
    """The content with a few other bytes, or cut off."""
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    return bytes(changed[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])


@no_deadline
@given(data=st.data())
def test_any_bytes_of_the_manifest(manifest: Manifest, copy: Path, data: st.DataObject) -> None:
    content = (manifest.root / MANIFEST_NAME).read_bytes()
    shutil.copyfile(manifest.root / DATASET_NAME, copy / DATASET_NAME)
    _publish(copy, _changed_bytes(data, content))
    message = _one_line(copy)
    assert not message or str(copy) in message
    if not message:
        # What says where a video lies is then the truth. Other values may be another of their kind.
        found = read_manifest(copy).table
        for column in ("shard", "offset", "num_frames"):
            assert found.column(column).equals(manifest.table.column(column)), column


@no_deadline
@given(data=st.data())
def test_any_bytes_of_a_packet_index(manifest: Manifest, copy: Path, data: st.DataObject) -> None:
    for name in (DATASET_NAME, MANIFEST_NAME):
        shutil.copyfile(manifest.root / name, copy / name)
    name = packets_name(manifest.shard_names[0])
    content = (manifest.root / name).read_bytes()
    (copy / name).unlink(missing_ok=True)  # an earlier example has mapped it
    (copy / name).write_bytes(_changed_bytes(data, content))
    try:
        message = _one_line(copy)
    finally:
        (copy / name).unlink()
        (copy / name).write_bytes(content)
    # The SHA-256 of each row is in the manifest: another content is never taken for the true one.
    assert "packet index" in message or message == ""


@no_deadline
@given(name=NAMES | st.text(max_size=30), field=st.sampled_from(["name", "sha256", "digest"]))
def test_nothing_is_written_outside_the_cache(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, field: str
) -> None:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    document = json.loads((manifest.root / DATASET_NAME).read_text())
    if field == "digest":
        document["digest"] = name
    else:
        document["shards"][0][field] = name
    answer = _answer_behind_url(manifest, {DATASET_NAME: json.dumps(document).encode()})
    assert DATASET_NAME in answer
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["here"]
    assert list((tmp_path / "here").iterdir()) == []
    assert not list((tmp_path / "cache").rglob("x"))  # "../x" would lead to another set's folder


def _answer_behind_url(manifest: Manifest, changed: dict[str, bytes]) -> str:
    """As `_answer`, for the shards behind a URL, with other bytes in the files in `changed`."""
    files = fsspec.filesystem("memory")
    for path in manifest.root.iterdir():
        if path.is_file():
            content = changed.get(path.name, path.read_bytes())
            files.pipe_file(f"/mutations/{path.name}", content)
    return _answer("memory://mutations")


@no_deadline
@given(name=NAMES | st.text(max_size=30), column=st.sampled_from(["shard", "key"]))
def test_no_row_leads_outside_the_cache(
    manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, column: str
) -> None:
    """All digests fit the changed row."""
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    name = name.encode("utf-8", "replace").decode()
    rows = manifest.table.to_pylist()
    changed = pa.Table.from_pylist([{**rows[0], column: name}, *rows[1:]], SCHEMA)
    assume(column == "shard" or not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name))
    digest = content_digest(manifest.name, manifest.classes, changed)
    content = _parquet(changed.replace_schema_metadata({"digest": digest}))
    document = json.loads((manifest.root / DATASET_NAME).read_text())
    document |= {"digest": digest, "manifest_sha256": hashlib.sha256(content).hexdigest()}
    files = {MANIFEST_NAME: content, DATASET_NAME: json.dumps(document).encode()}
    assert f"row 0: {column} must not be" in _answer_behind_url(manifest, files)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["here"]
    assert list((tmp_path / "here").iterdir()) == []
    assert not list((tmp_path / "cache").rglob("x"))  # "../x" would lead to another set's folder


@pytest.mark.parametrize(
    ("store_schema", "reason"),
    [(True, "its column source is dictionary"), (False, "its table has more than 1000000 bytes")],
)
def test_a_small_file_with_an_enormous_table_is_refused(
    manifest: Manifest,
    copy: Path,
    monkeypatch: pytest.MonkeyPatch,
    store_schema: bool,
    reason: str,
) -> None:
    """A hundred gigabytes of text, of which no more than the first megabytes are ever in memory."""
    monkeypatch.setattr(parquet, "_MAX_TABLE_BYTES", 1_000_000)
    zeros = pa.array(np.zeros(1_000_000, np.int32))
    source = pa.DictionaryArray.from_arrays(zeros, ["x" * 100_000])
    columns = {name: pa.nulls(len(zeros), SCHEMA.field(name).type) for name in SCHEMA.names}
    sink = pa.BufferOutputStream()
    table = pa.table({**columns, "source": source})
    pq.write_table(table, sink, compression="zstd", store_schema=store_schema)
    content = bytes(sink.getvalue())
    assert len(content) < 1_000_000
    shutil.copyfile(manifest.root / DATASET_NAME, copy / DATASET_NAME)
    _publish(copy, content)
    assert reason in _answer(copy)
