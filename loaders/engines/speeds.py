"""How fast engines are on this machine, for one stage: measured once, in seconds, and kept.

A record is a small JSON file in the user's cache folder. Its name is the digest of all that the
speeds depend on. So another GPU, driver, version, stage or size has another record.
"""

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import torch

from shards.files.addresses import cache_root
from shards.files.lock import locked
from shards.files.publish import publish_bytes

_logger = logging.getLogger(__name__)
_WARM_BATCHES, _MIN_BATCHES, _SECONDS = 6, 3, 2.0

Speeds = dict[str, float]
"""Engine -> videos/s."""


def kept_speeds(
    key: Mapping[str, object], engines: Collection[str], measure: Callable[[], Speeds]
) -> Speeds:
    """The speeds in the record of `key`, or those that `measure` returns, which are then kept.

    Several processes that ask at once measure once. Without a folder to write to, nothing is kept.

    Args:
        key: All that the speeds depend on; it must fit into JSON.
        engines: The engines that are measured; a record of others counts as none.
        measure: Measures.
    """
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_root() / "engine-speeds"
    path = folder / f"{name}.json"
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(
                locked(folder / f"{name}.lock", f"{path}: locked", patience_s=math.inf)
            )
        except OSError as error:
            _warn_not_kept(error)
            return measure()
        speeds = _read(path, key, engines)
        if speeds is None:
            speeds = measure()
            record = {"key": key, "videos_per_s": speeds}
            try:
                publish_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
            except OSError as error:
                _warn_not_kept(error)
        return speeds


def _warn_not_kept(error: OSError) -> None:
    _logger.warning("loader: the speeds of the engines are not kept: %s", error)


def _read(path: Path, key: Mapping[str, object], engines: Collection[str]) -> Speeds | None:
    """The recorded speeds; None if there are none for this key and these engines, or bad ones."""
    try:
        record = json.loads(path.read_bytes())
        if record["key"] != json.loads(json.dumps(key)):
            return None
        speeds = {str(name): float(speed) for name, speed in record["videos_per_s"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    are_usable = all(math.isfinite(speed) and speed > 0 for speed in speeds.values())
    return speeds if are_usable and speeds.keys() == set(engines) else None


def videos_per_s(counts: Iterator[int], device: torch.device) -> float:
    """The speed of an iterator over the numbers of videos in batches, after a warm-up.

    It counts batches for two seconds, and at least three of them.
    """
    for _ in islice(counts, _WARM_BATCHES):
        pass
    _synchronize(device)
    num_videos = num_batches = 0
    began_s = time.perf_counter()
    while num_batches < _MIN_BATCHES or time.perf_counter() - began_s < _SECONDS:
        num_videos += next(counts)
        num_batches += 1
    _synchronize(device)
    return num_videos / (time.perf_counter() - began_s)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
