"""Sources -> a finished folder of shards. Orchestration only.

Workers encode, this process writes, in an order fixed by the seed. Every finished shard leaves a
note in OUT/.ingest/ with its rows; an interrupted run goes on after the last note, and writes
what an uninterrupted run would have written, byte for byte. The price: what was done on the shard
in progress is lost. Unfinished files live in OUT/.ingest/ too, which goes away at the end.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shards.cpus import num_cpus
from shards.encode.recipe import Recipe
from shards.encode.transcode import Encoded, TranscodeError
from shards.encode.versions import library_versions
from shards.errors import InputError
from shards.files.store import Store, open_store
from shards.format.manifest import (
    DATASET_NAME,
    read_dataset_facts,
    write_manifest,
)
from shards.format.skipped import SKIPPED_NAME, read_skipped, write_skipped
from shards.ingestion.collector import ShardCollector
from shards.ingestion.journal import Journal, Note, fingerprint
from shards.ingestion.out_folder import check_apart, disk_trouble
from shards.ingestion.pool import encode_all
from shards.ingestion.ray_pool import encode_all_on_ray
from shards.sources.dataset import Dataset, Source

DEFAULT_SHARD_BYTES = 128 << 20
DEFAULT_TIME_LIMIT_S = 900.0

Progress = Callable[[int, int, str], None]
Results = Generator[Encoded | TranscodeError, None, None]
Encode = Callable[[list[Path]], Results]


@dataclass(frozen=True, kw_only=True)
class IngestReport:
    """What `ingest` did.

    `num_skipped` counts bad videos, `num_missing` those that the data set's lists name and the disk
    lacks; `num_resumed` the sources that an earlier, interrupted run had dealt with.
    `already_done` says that an earlier run had finished and nothing was written.
    """

    num_videos: int
    num_skipped: int
    num_missing: int
    num_shards: int
    num_bytes: int
    digest: str
    num_resumed: int = 0
    already_done: bool = False


def ingest(
    dataset: Dataset,
    out: Path | str,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    workers: int | None = None,
    ray_address: str | None = None,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
    strict: bool = False,
    progress: Progress | None = None,
) -> IngestReport:
    """Writes the data set as shards into `out`, or finishes what an interrupted run began.

    The same sources, recipe and seed give the same bytes and digest whatever the number of
    workers and interruptions. Bad and missing videos are listed with their reason in
    OUT/skipped.jsonl; a class that loses all of its videos stays, with none.

    Where an unfinished run skipped videos for reasons that may have passed, they are tried again,
    and the shards from the first that now lacks one are made anew. What is finished stays as it is.

    Args:
        dataset: what to store.
        out: the folder, made if missing; a path, or a URL that fsspec opens.
        recipe: how to store it; default Recipe().
        seed: of the order in which videos lie in the shards.
        shard_bytes: a shard takes no further video that would make it larger than this.
        workers: processes that encode; default: one per CPU this process may use, or of the
            cluster.
        ray_address: encode on this Ray cluster ("auto": the one running here), not on this machine.
        time_limit_s: a video that takes longer counts as bad; for decoders that hang.
        strict: stop at the first bad video instead of listing it.
        progress: called in this thread with (videos done, videos in all, key).

    Raises:
        InputError: `out` holds something else or cannot be written, all videos are bad, or one is
            (or was, in an earlier run) and `strict` is set.
    """
    recipe = recipe or Recipe()
    if (workers is not None and workers < 1) or shard_bytes < 1 or not time_limit_s > 0:
        raise InputError(
            f"workers {workers}, shard bytes {shard_bytes}, time limit {time_limit_s} s: must be"
            " above 0"
        )
    if seed < 0:
        raise InputError(f"seed {seed}: must not be below 0")
    if not dataset.sources:
        raise InputError(f"{dataset.name}: there are no videos to store")
    mark = fingerprint(dataset, recipe, seed, shard_bytes)
    store = open_store(out)
    encode = partial(
        _encoded,
        recipe=recipe,
        workers=workers,
        ray_address=ray_address,
        time_limit_s=time_limit_s,
    )
    with disk_trouble(store.name):
        check_apart(dataset, out)
        if store.size(DATASET_NAME) is not None:
            return _finished_before(dataset, store, mark, strict)
        journal = Journal(store)
        with journal.locked():
            if store.size(DATASET_NAME) is not None:  # another process has just finished
                return _finished_before(dataset, store, mark, strict)
            plan = {"fingerprint": mark, "versions": library_versions()}
            notes = _tried_again(dataset, journal, journal.start(plan), encode)
            num_resumed = notes[-1].next_position if notes else 0
            if strict:
                _refuse_skipped(dataset, [entry for note in notes for entry in note.skipped])
            collector = ShardCollector(dataset, store, journal, notes, shard_bytes)
            order = np.random.default_rng(seed).permutation(len(dataset.sources))
            left = [dataset.sources[index] for index in order[num_resumed:]]
            paths = [source.path for source in left if not source.fault]
            _collect(collector, left, encode(paths), strict, progress)
            write_skipped(store, collector.skipped, dataset.missing)
            if not collector.rows:
                journal.remove()
                raise _nothing_usable(dataset, store, collector)
            facts = _facts(dataset, recipe, seed, mark, collector)
            digest = write_manifest(
                store,
                name=dataset.name,
                classes=dataset.classes,
                rows=collector.rows,
                facts=facts,
            )
            journal.remove()
    return _report({**facts, "digest": digest}, num_resumed=num_resumed)


def _encoded(
    paths: list[Path],
    recipe: Recipe,
    workers: int | None,
    ray_address: str | None,
    time_limit_s: float,
) -> Results:
    if ray_address is not None:
        return encode_all_on_ray(paths, recipe, workers, time_limit_s, ray_address)
    num_workers = min(workers or num_cpus(), max(1, len(paths)))
    return encode_all(paths, recipe, num_workers, time_limit_s)


def _collect(
    collector: ShardCollector,
    left: Sequence[Source],
    results: Results,
    strict: bool,
    progress: Progress | None,
) -> None:
    """Collects what is left to be done after the last finished shard."""
    num_sources = collector.position + len(left)
    if progress:
        progress(collector.position, num_sources, "")
    with closing(collector), closing(results):
        for source in left:
            result = source.fault or next(results)
            if isinstance(result, Encoded):
                collector.add(source, result)
            else:
                reason, may_pass = _reason(source, result)
                if strict:
                    raise _refusal(source, reason)
                collector.skip(source, reason, may_pass=may_pass)
            if progress:
                progress(collector.position, num_sources, source.key)
        collector.finish()


def _tried_again(
    dataset: Dataset, journal: Journal, notes: list[Note], encode: Encode
) -> list[Note]:
    """The notes before the first that left out a video which can be used by now."""
    source_of = {source.key: source for source in dataset.sources}
    again = [
        (index, entry, source_of[entry["key"]])
        for index, note in enumerate(notes)
        for entry in note.skipped
        if entry.get("may_pass")  # notes of earlier versions do not say
    ]
    if not again:
        return notes
    with closing(encode([source.path for _, _, source in again])) as results:
        for (index, entry, source), result in zip(again, results, strict=True):
            if isinstance(result, Encoded):
                journal.forget(index)
                return notes[:index]
            entry["reason"], entry["may_pass"] = _reason(source, result)
    return notes


def _reason(source: Source, fault: str | TranscodeError) -> tuple[str, bool]:
    """Why a video is skipped, and whether another try may go well."""
    if isinstance(fault, str):
        return fault, False
    return str(fault).removeprefix(f"{source.path.name}: "), fault.may_pass


def _refuse_skipped(dataset: Dataset, skipped: Sequence[dict[str, Any]]) -> None:
    for entry in skipped:
        source = next(source for source in dataset.sources if source.key == entry["key"])
        raise _refusal(source, entry["reason"])


def _refusal(source: Source, reason: str) -> InputError:
    return InputError(f"{source.path}: {reason}; left out without --strict")


def _nothing_usable(dataset: Dataset, store: Store, collector: ShardCollector) -> InputError:
    first = collector.skipped[0]
    return InputError(
        f"{dataset.root}: none of the {len(collector.skipped)} videos can be used, e.g."
        f" {first['source']}: {first['reason']}; all reasons are in {store.name}/{SKIPPED_NAME}"
    )


def _facts(
    dataset: Dataset, recipe: Recipe, seed: int, mark: str, collector: ShardCollector
) -> dict[str, Any]:
    """What dataset.json says beyond the manifest."""
    return {
        "num_sources": len(dataset.sources),
        "num_skipped": len(collector.skipped),
        "num_missing": len(dataset.missing),
        "num_frames": sum(row["num_frames"] for row in collector.rows),
        "recipe": asdict(recipe),
        "seed": seed,
        "fingerprint": mark,
        "versions": library_versions(),
        "shards": collector.shards,
    }


def _finished_before(dataset: Dataset, store: Store, mark: str, strict: bool) -> IngestReport:
    facts = read_dataset_facts(store.name)
    if facts.get("fingerprint") != mark:
        raise InputError(
            f"{store.name}: holds finished shards of other videos, recipe or seed; choose another"
            " --out, or delete the folder"
        )
    for shard in facts["shards"]:
        size = store.size(shard["name"])
        if size != shard["num_bytes"]:
            found = "missing"
            if size is not None:
                found = f"has {size} bytes, was written with {shard['num_bytes']}"
            raise InputError(
                f"{store.name}/{shard['name']}: {found}; check the others with `tb shards verify"
                f" {store.name}`, or delete {store.name} and run again"
            )
    if strict:
        _refuse_skipped(dataset, [entry for entry in read_skipped(store) if entry["key"]])
    # Left behind where the last run was killed between its last two steps.
    Journal(store).remove()
    return _report(facts, num_resumed=facts["num_sources"], already_done=True)


def _report(facts: dict[str, Any], *, num_resumed: int, already_done: bool = False) -> IngestReport:
    return IngestReport(
        num_videos=facts["num_sources"] - facts["num_skipped"],
        num_skipped=facts["num_skipped"],
        num_missing=facts["num_missing"],
        num_shards=len(facts["shards"]),
        num_bytes=sum(shard["num_bytes"] for shard in facts["shards"]),
        digest=facts["digest"],
        num_resumed=num_resumed,
        already_done=already_done,
    )
