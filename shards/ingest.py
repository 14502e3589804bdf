"""Sources -> a finished folder of shards. Orchestration only.

Workers encode, this process writes, in an order fixed by the seed. Every finished shard leaves a
note in OUT/.ingest/ with its rows; an interrupted run goes on after the last note, and writes
what an uninterrupted run would have written, byte for byte. The price: what was done on the shard
in progress is lost. Unfinished files live in OUT/.ingest/ too, which goes away at the end.
"""

import errno
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shards.collector import ShardCollector
from shards.cpus import num_cpus
from shards.datasets import Dataset, Source
from shards.errors import InputError
from shards.journal import Journal, fingerprint
from shards.manifest import (
    DATASET_NAME,
    read_dataset_facts,
    write_manifest,
)
from shards.pool import encode_all
from shards.ray_pool import encode_all_on_ray
from shards.recipe import Recipe
from shards.storage import Store, open_store, remote_url
from shards.transcode import Encoded, TranscodeError
from shards.versions import library_versions

SKIPPED_NAME = "skipped.jsonl"
MISSING_REASON = "missing: in the lists, not on disk"
DEFAULT_SHARD_BYTES = 128 << 20
DEFAULT_TIME_LIMIT_S = 900.0

Progress = Callable[[int, int, str], None]
Results = Generator[Encoded | TranscodeError, None, None]


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
    OUT/skipped.jsonl.

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
        InputError: `out` holds something else or cannot be written, all videos or all of a class
            are bad, or one is and `strict` is set.
    """
    recipe = recipe or Recipe()
    if (workers is not None and workers < 1) or shard_bytes < 1 or not time_limit_s > 0:
        raise InputError(
            f"workers {workers}, shard bytes {shard_bytes}, time limit {time_limit_s} s: must be"
            " above 0"
        )
    if not dataset.sources:
        raise InputError(f"{dataset.name}: there are no videos to store")
    _check_apart(dataset, out)
    mark = fingerprint(dataset, recipe, seed, shard_bytes)
    store = open_store(out)
    with _disk_trouble(store.name):
        if store.size(DATASET_NAME) is not None:
            return _finished_before(store, mark)
        journal = Journal(store)
        with journal.locked():
            if store.size(DATASET_NAME) is not None:  # another process has just finished
                return _finished_before(store, mark)
            plan = {"fingerprint": mark, "versions": library_versions()}
            notes = journal.start(plan)
            num_resumed = notes[-1].next_position if notes else 0
            collector = ShardCollector(dataset, store, journal, notes, shard_bytes)
            order = np.random.default_rng(seed).permutation(len(dataset.sources))
            left = [dataset.sources[index] for index in order[num_resumed:]]
            paths = [source.path for source in left if not source.fault]
            results = _encoded(paths, recipe, workers, ray_address, time_limit_s)
            _collect(collector, left, results, strict, progress)
            _check_kept(dataset, store, collector, journal)
            facts = _facts(dataset, recipe, seed, mark, collector)
            digest = _publish(dataset, store, collector, facts)
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
    for entry in collector.skipped if strict else []:
        raise InputError(f"{entry['source']}: {entry['reason']}")
    num_sources = collector.position + len(left)
    if progress:
        progress(collector.position, num_sources, "")
    with closing(collector), closing(results):
        for source in left:
            result = source.fault or next(results)
            if isinstance(result, Encoded):
                collector.add(source, result)
            else:
                reason = str(result).removeprefix(f"{source.path.name}: ")
                if strict:
                    raise InputError(f"{source.path}: {reason}; left out without --strict")
                collector.skip(source, reason)
            if progress:
                progress(collector.position, num_sources, source.key)
        collector.finish()


def _check_kept(
    dataset: Dataset, store: Store, collector: ShardCollector, journal: Journal
) -> None:
    if not collector.rows:
        first = collector.skipped[0]
        journal.remove()
        raise InputError(
            f"{dataset.root}: none of the {len(collector.skipped)} videos can be used, e.g."
            f" {first['source']}: {first['reason']}"
        )
    kept = {row["label"] for row in collector.rows}
    lost = next((source for source in dataset.sources if source.label not in kept), None)
    if lost:
        reasons = {entry["key"]: entry["reason"] for entry in collector.skipped}
        raise InputError(
            f"{dataset.root}: class {dataset.classes[lost.label]!r} has no usable video left (e.g."
            f" {lost.path.name}: {reasons[lost.key]}); repair or remove the class, then delete"
            f" {store.name} or choose another --out"
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


def _publish(
    dataset: Dataset, store: Store, collector: ShardCollector, facts: dict[str, Any]
) -> str:
    absent = [{"source": n, "key": "", "reason": MISSING_REASON} for n in dataset.missing]
    if collector.skipped or absent:
        lines = "".join(json.dumps(entry) + "\n" for entry in [*collector.skipped, *absent])
        store.put_bytes(SKIPPED_NAME, lines.encode())
    return write_manifest(
        store, name=dataset.name, classes=dataset.classes, rows=collector.rows, facts=facts
    )


def _finished_before(store: Store, mark: str) -> IngestReport:
    facts = read_dataset_facts(store.name)
    if facts.get("fingerprint") != mark:
        raise InputError(
            f"{store.name}: holds finished shards of other videos, recipe or seed; choose another"
            " --out, or delete the folder"
        )
    for shard in facts["shards"]:
        if store.size(shard["name"]) is None:
            raise InputError(
                f"{store.name}/{shard['name']}: missing; delete {store.name} and run again"
            )
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


def _check_apart(dataset: Dataset, out: Path | str) -> None:
    if remote_url(out) is not None:
        return
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; --out takes a folder")
    if (out / "__init__.py").exists():  # "shards" itself, in a clone of this project
        raise InputError(f"{out}: holds Python code; choose another --out")
    target = out.resolve()
    if target == dataset.root.resolve() or any(
        target in source.path.absolute().parents for source in dataset.sources
    ):
        raise InputError(f"{out}: holds the videos themselves; choose another --out")


@contextmanager
def _disk_trouble(out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space and run again; finished shards are kept"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "choose an --out that you may write to"
        else:
            raise
        raise InputError(f"{out}: {error.strerror}; {advice}") from error
