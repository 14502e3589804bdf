"""`--append`: what a finished set takes from a data set, and what it refuses.

The set keeps its videos as they are: their shards, rows, labels and keys. A video is in the set
already if its path relative to the root and its times are the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from shards.encode.encoded import Encoded
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.files.store import Store
from shards.format.dataset_json import DatasetJson, read_dataset_json
from shards.format.manifest import read_manifest
from shards.format.skipped_jsonl import Skipped, read_skipped
from shards.format.video import Video
from shards.sources.keys import with_hash
from shards.sources.source import Dataset, Source

_ANOTHER_OUT = (
    "--append changes no video of the set: give the new videos alone, or choose another --out"
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A finished set to which videos are added.

    Attributes:
        about: Its dataset.json.
        videos: Its rows.
        left_out: Its skipped.jsonl.
    """

    about: DatasetJson
    videos: Sequence[Video]
    left_out: Sequence[Skipped]

    @cached_property
    def by_source(self) -> dict[str, Video]:
        """Name of a source -> its video."""
        return {video.source: video for video in self.videos}

    @cached_property
    def keys(self) -> frozenset[str]:
        """The keys that are taken."""
        return frozenset(video.key for video in self.videos)

    def knows(self, names: Iterable[str]) -> bool:
        """Whether all these sources are in the set, or in its list of videos left out."""
        return {*self.by_source, *(entry.source for entry in self.left_out)}.issuperset(names)

    @cached_property
    def _key_of_bytes(self) -> dict[str, str]:
        return {video.sha256: video.key for video in self.videos}

    def twin_of(self, encoded: Encoded) -> str | None:
        """The key of a video of the set with the same bytes; None if there is none."""
        return self._key_of_bytes.get(encoded.sha256)


def read_base(store: Store) -> Base:
    """The finished set in a folder.

    Raises:
        InputError: There is none.
    """
    return Base(
        about=read_dataset_json(store.name),
        videos=list(read_manifest(store.name).select()),
        left_out=read_skipped(store),
    )


def new_in(dataset: Dataset, base: Base, recipe: Recipe, seed: int) -> Dataset:
    """The videos that the set does not have, with the set's name and labels, and with free keys.

    If splits are drawn, they are drawn for the new videos only. The other videos keep theirs.

    Raises:
        InputError: The recipe, the seed, a video or the number of splits differs from that of the
            set, or a new class would change the label of a class of the set.
    """
    _check_recipe(base, recipe, seed)
    classes = _classes(dataset, base)
    new = []
    for source in dataset.sources:
        name, class_name = source.name, dataset.classes[source.label]
        if name in base.by_source:
            if dataset.draw:  # a new draw may give an old video another split
                source = replace(source, splits=base.by_source[name].splits)
            _check_same(source, name, class_name, base)
            continue
        if base.videos and len(source.splits) != len(base.videos[0].splits):
            raise InputError(
                f"{source.path}: {len(source.splits)} split numbers, but the set has"
                f" {len(base.videos[0].splits)}; choose another --out"
            )
        key = source.key if source.key not in base.keys else with_hash(source.key, name)
        new.append(replace(source, key=key, label=classes.index(class_name)))
    if dataset.draw:
        keys, labels = [source.key for source in new], [source.label for source in new]
        splits = dataset.draw.splits(keys, labels, base.videos)
        new = [replace(source, splits=(split,)) for source, split in zip(new, splits, strict=True)]
    return replace(dataset, name=base.about.name, classes=classes, sources=tuple(new))


def left_out_of(
    base: Base, dataset: Dataset, videos: Sequence[Video], skipped: Sequence[Skipped]
) -> tuple[list[Skipped], list[str]]:
    """What the set leaves out after an ingestion: (videos that cannot be used, names not on disk).

    Args:
        base: The set before.
        dataset: What was given.
        videos: All rows now.
        skipped: What could not be used this time.
    """
    settled = {video.source for video in videos} | {entry.source for entry in skipped}
    old = [entry for entry in base.left_out if entry.source not in settled]
    missing = [entry.source for entry in old if not entry.key]
    known = {*settled, *missing}
    missing += [name for name in dataset.missing if name not in known]
    return [*(entry for entry in old if entry.key), *skipped], missing


def _check_recipe(base: Base, recipe: Recipe, seed: int) -> None:
    given, has = recipe.to_json() | {"seed": seed}, base.about.recipe | {"seed": base.about.seed}
    for name in sorted(given.keys() | has.keys()):
        if given.get(name) != has.get(name):
            words = name.removesuffix("_px").replace("_", " ").replace("codec", "recipe")
            raise InputError(
                f"{words} is {given.get(name)}, but the set has {has.get(name)}: --append stores"
                " all videos in the same way; give the same value, or choose another --out"
            )


def _classes(dataset: Dataset, base: Base) -> tuple[str, ...]:
    old = base.about.classes
    new = sorted(set(dataset.classes) - set(old), key=_alphabetical)
    for name in new:
        if _alphabetical(name) < _alphabetical(old[-1]):
            raise InputError(
                f"class {name!r} is new and comes before {old[-1]!r}, whose label would change:"
                " labels count classes alphabetically; give it a name that comes after, or choose"
                " another --out"
            )
    return (*old, *new)


def _alphabetical(name: str) -> tuple[str, str]:
    return name.casefold(), name


def _check_same(source: Source, name: str, class_name: str, base: Base) -> None:
    video = base.by_source[name]
    for what, now, before in (
        ("bytes", source.num_bytes, video.source_bytes),
        ("class", class_name, base.about.classes[video.label]),
        ("splits", source.splits, video.splits),
        ("group", source.group, video.group),
    ):
        if now != before:
            raise InputError(
                f"{source.path}: {what} {_text(now)}, but {_text(before)} in the set, where it is"
                f" {video.key}: {_ANOTHER_OUT}"
            )


def _text(value: object) -> str:
    return (
        ",".join(str(one) or "unused" for one in value) if isinstance(value, tuple) else str(value)
    )
