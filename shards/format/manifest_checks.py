"""Which values the rows of a manifest may have, because a manifest may come from a stranger.

Keys and shard names become file names, and offsets and sizes become reads. A row with a bad value
could make a program read a file outside the folder, or compute nonsense. One such row is enough to
refuse the whole manifest. `shards.verification` checks whether the videos are what the rows say.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shards.errors import InputError
from shards.format.dataset_json import DATASET_NAME, DatasetJson
from shards.format.packets import INDEXED_CODECS
from shards.format.shard import SHARD_PATTERN
from shards.format.splits import SplitName
from shards.format.video import MAX_HEIGHT_PX, MAX_NUM_FRAMES, MAX_WIDTH_PX, ColorMatrix, ColorRange

# Column -> what all of its texts must match.
_PATTERNS = {
    "key": r"^[A-Za-z0-9_-]{1,100}$",
    "shard": f"^{SHARD_PATTERN}$",
    "sha256": r"^[0-9a-f]{64}$",
    "packets_sha256": r"^([0-9a-f]{64})?$",
    "codec": r"^[a-z0-9_]{1,40}$",
    "pixel_format": r"^[a-z0-9_]{1,40}$",
    "color_matrix": f"^({'|'.join(ColorMatrix)})$",
    "color_range": f"^({'|'.join(ColorRange)})$",
}
_MAX_INDEXED_SIDE_PX = 2**16 - 1
# Column -> its least and greatest number.
_LIMITS = {
    "label": (0, 2**31),
    "num_frames": (1, MAX_NUM_FRAMES),
    "fps_num": (1, 2**31),
    "fps_den": (1, 2**31),
    "height": (1, 2**31),
    "width": (1, 2**31),
    "offset": (0, 2**62),
    "size": (1, 2**40),
    "source_bytes": (-1, 2**62),
}


def check_rows(path: str, table: pa.Table, about: DatasetJson) -> None:
    """Checks all rows at once.

    Args:
        path: The manifest, for messages.
        table: The rows, with the columns of `Video`.
        about: The content of dataset.json, which has the classes and the shards.

    Raises:
        InputError: A row has a value that no row may have or the key of another row, or
            dataset.json counts something else than the rows give.
    """
    for name in table.column_names:
        if table.column(name).null_count:
            raise _refusal(path, name, int(np.flatnonzero(table.column(name).is_null())[0]), "none")
    for name, pattern in _PATTERNS.items():
        _check(path, table, name, pc.match_substring_regex(table.column(name), pattern))
    for name, (least, greatest) in _LIMITS.items():
        column = table.column(name)
        greatest = min(greatest, len(about.classes) - 1) if name == "label" else greatest
        good = pc.and_(pc.greater_equal(column, least), pc.less_equal(column, greatest))
        _check(path, table, name, good)
    _check_indexed(path, table)
    # The limits above come first. Without them this product, and the sum in `_check_shards`, could
    # overflow.
    num_pixels = pc.multiply(table.column("height"), table.column("width"))
    _check(path, table, "width", pc.less_equal(num_pixels, MAX_HEIGHT_PX * MAX_WIDTH_PX))
    _check_shards(path, table, about)
    splits = table.column("splits").combine_chunks()
    members = pc.list_flatten(splits)
    is_known = pc.is_in(members, pa.array(list(SplitName), pa.string()))
    if not pc.all(is_known).as_py():
        place = pc.index(is_known, False).as_py()
        row = pc.list_parent_indices(splits)[place].as_py()
        raise _refusal(path, "splits", row, _short(members[place].as_py()))
    keys = table.column("key")
    if len(pc.unique(keys)) != len(keys):
        _, firsts = np.unique(keys.to_numpy(zero_copy_only=False), return_index=True)
        row = int(np.setdiff1d(np.arange(len(keys)), firsts)[0])
        raise _refusal(path, "key", row, f"{keys[row].as_py()!r} a second time")
    _check_counts(path, table, about)


def _check_indexed(path: str, table: pa.Table) -> None:
    """Checks codec and size of videos with a packet index, which are decoded with no container."""
    has_none = pc.equal(table.column("packets_sha256"), "")
    is_known = pc.is_in(table.column("codec"), value_set=pa.array(INDEXED_CODECS))
    _check(path, table, "codec", pc.or_(has_none, is_known))
    for side in ("height", "width"):
        is_small = pc.less_equal(table.column(side), _MAX_INDEXED_SIDE_PX)
        _check(path, table, side, pc.or_(has_none, is_small))


def _check_shards(path: str, table: pa.Table, about: DatasetJson) -> None:
    """Checks that each video lies inside a listed shard, and that rows have the shards' order."""
    names = pa.array([shard.name for shard in about.shards], pa.string())
    place = pc.index_in(table.column("shard"), value_set=names)
    _check(path, table, "shard", pc.is_valid(place))
    follows = np.diff(np.asarray(place.to_numpy()), prepend=0) >= 0
    _check(path, table, "shard", pa.chunked_array([pa.array(follows)]))
    num_bytes = pa.array([shard.num_bytes for shard in about.shards], pa.int64()).take(place)
    _check(path, table, "offset", pc.less(table.column("offset"), num_bytes))
    ends = pc.add(table.column("offset"), table.column("size"))
    _check(path, table, "size", pc.less_equal(ends, num_bytes))


def _check_counts(path: str, table: pa.Table, about: DatasetJson) -> None:
    """Checks that dataset.json counts what the rows give, and lists no shard without a video."""
    used = set(pc.unique(table.column("shard")).to_pylist())
    listed = [shard.name for shard in about.shards]
    counts = _split_counts(table.column("splits"), len(about.counts) + 1)
    for field, said, found in (
        ("num_videos", about.num_videos, table.num_rows),
        ("num_frames", about.num_frames, pc.sum(table.column("num_frames")).as_py()),
        ("counts", about.counts, counts),
        ("shards", listed, [name for name in listed if name in used]),
    ):
        if said != found:
            raise InputError(
                f"{path}: the rows give {field} {_short(found)}, but {DATASET_NAME} has"
                f" {_short(said)}; run `tb shard` again with another --out"
            )


def _split_counts(memberships: pa.ChunkedArray, most: int) -> tuple[dict[str, int], ...]:
    """As `splits.split_counts`, for the first `most` split numbers.

    Arrow does the counting, because an object for each row takes time, and lists from a stranger
    may be long.
    """
    counts = []
    for number in range(most):
        memberships = memberships.filter(pc.greater(pc.list_value_length(memberships), number))
        if not len(memberships):
            break
        found = pc.value_counts(pc.list_element(memberships, number)).to_pylist()
        counts.append({SplitName(one["values"]).text: one["counts"] for one in found})
    return tuple(counts)


def _check(path: str, table: pa.Table, name: str, is_good: pa.ChunkedArray) -> None:
    bad = np.flatnonzero(~np.asarray(is_good.to_numpy(), dtype=bool))
    if len(bad):
        row = int(bad[0])
        raise _refusal(path, name, row, _short(table.column(name)[row].as_py()))


def _short(value: object) -> str:
    return repr(value)[:100]


def _refusal(path: str, name: str, row: int, value: str) -> InputError:
    return InputError(
        f"{path}: row {row}: {name} must not be {value}; run `tb shard` again with another --out"
    )
