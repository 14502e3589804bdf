"""Many videos at a time on a Ray cluster, with the results in order.

The nodes encode and the caller writes. Where a shard ends depends on the order and size of all
videos, so one process must see them in turn. It receives every encoded byte, which limits the rate:
a core writes about 1 MB of h264 a second, so a 10 Gb/s network is enough for some hundred
cores. If a node is lost, other nodes encode its videos again.
"""

import logging
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from shards.encode.encoded import Encoded, TranscodeError
from shards.encode.recipe import Recipe
from shards.encode.versions import library_versions
from shards.errors import InputError
from shards.ingestion.passes import Pass
from shards.ingestion.worker import Worker

_LOOK_AHEAD_PER_CPU = 4


def encode_all_on_ray(
    passes: Iterable[Pass],
    recipe: Recipe,
    num_workers: int | None,
    time_limit_s: float,
    address: str,
) -> Generator[Encoded | TranscodeError, None, None]:
    """Yields the result for each part of each pass, in order, as `pool.encode_all` does.

    Results wait in Ray's object store, which moves some of them to the disk when it is full.

    Args:
        passes: Files that all nodes see under the same path.
        recipe: How to store them.
        num_workers: At most this many at a time; by default one for each CPU of the cluster.
        time_limit_s: A video that takes longer gives a TranscodeError.
        address: The address of the cluster; "auto" for the one that runs on this machine.

    Raises:
        InputError: There is no such cluster, a node does not see a file, or a node has other
            versions of the libraries, on which the bytes depend.
    """
    ray = _connected(address)
    try:
        num_cpus = int(ray.cluster_resources().get("CPU", 1))
        look_ahead = num_workers or max(1, num_cpus) * _LOOK_AHEAD_PER_CPU
        # Retries are for lost nodes. A decoder that crashes ends only the child of the worker.
        task = ray.remote(num_cpus=1, max_retries=-1)(_encode)
        pending: deque[tuple[Path, Any]] = deque()
        for one_pass in passes:
            if len(pending) >= look_ahead:
                yield from _results(ray, *pending.popleft())
            there = replace(one_pass, path=one_pass.path.absolute())
            pending.append((one_pass.path, task.remote(there, recipe, time_limit_s)))
        while pending:
            yield from _results(ray, *pending.popleft())
    finally:
        ray.shutdown()


def _results(ray: Any, path: Path, answers: Any) -> Iterator[Encoded | TranscodeError]:
    for answer in answers:
        yield _result(ray, path, answer)


def _connected(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed; pip install 'timebalance[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(
            f"Ray address {address}: no Ray cluster there; start one with `ray start --head`, or"
            " give another address"
        ) from error
    return ray


def _result(ray: Any, path: Path, answer: Any) -> Encoded | TranscodeError:
    try:
        versions, result = ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"Ray: {path}: {reason}; are the nodes up, and is timebalance installed on all?"
        ) from error
    if versions != library_versions():
        raise InputError(
            f"Ray: a node has {versions}, this machine {library_versions()}: the bytes would"
            " depend on who encodes what; install the same versions everywhere"
        )
    if isinstance(result, TranscodeError) and result.is_missing and path.exists():
        raise InputError(
            f"{path}: a node of the cluster does not see it; the videos must lie in a folder that"
            " all nodes have under the same path"
        )
    assert isinstance(result, Encoded | TranscodeError)
    return result


def _encode(
    one_pass: Pass, recipe: Recipe, time_limit_s: float
) -> Iterator[tuple[dict[str, str], Encoded | TranscodeError]]:
    for result in _worker().encode(one_pass, recipe, time_limit_s):
        yield library_versions(), result


@cache
def _worker() -> Worker:
    """A child of this Ray process: a crash or a hang ends only the child."""
    return Worker()
