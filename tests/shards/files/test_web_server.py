"""Sets behind a web server: ranges are requested, and what a server sends is limited."""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from shards.files.remote_store import OriginalError, RemoteStore
from shards.files.size_limit import MAX_FILE_BYTES
from shards.format.manifest import Manifest, read_manifest
from shards.reader import ShardReader
from tests.shards.helpers import fault_of

_BLOCK = bytes(1 << 20)


class WebServer(ThreadingHTTPServer):
    """Serves the files of a folder.

    Attributes:
        folder: The folder.
        has_ranges: Whether it looks at the header "Range".
        num_blocks: If above 0, each answer has so many blocks of 1 MiB, and says no length.
        num_sent: The blocks that were sent.
    """

    folder: Path
    has_ranges = True
    num_blocks = 0
    num_sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def do_HEAD(self) -> None:
        path = self.server.folder / self.path.removeprefix("/")
        if not path.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()

    def do_GET(self) -> None:
        path = self.server.folder / self.path.removeprefix("/")
        if not path.is_file():
            self.send_error(404)
        elif self.server.num_blocks:
            self._send_blocks()
        else:
            data, given = path.read_bytes(), self.headers.get("Range")
            bounds = re.fullmatch(r"bytes=(\d+)-(\d+)", given) if given else None
            if bounds and self.server.has_ranges:
                data = data[int(bounds[1]) : int(bounds[2]) + 1]
                self.send_response(206)
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def _send_blocks(self) -> None:
        self.send_response(206)
        self.end_headers()
        self.close_connection = True
        try:
            for _ in range(self.server.num_blocks):
                self.wfile.write(_BLOCK)
                self.server.num_sent += 1
        except OSError:  # the reader has left
            return

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server(manifest: Manifest) -> Iterator[WebServer]:
    pytest.importorskip("aiohttp")
    with WebServer(("127.0.0.1", 0), _Handler) as server:
        server.folder = Path(manifest.root)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("cache", [True, False])
def test_a_web_server_is_a_source_of_shards(
    server: WebServer, manifest: Manifest, own_cache: Path, cache: bool
) -> None:
    remote = read_manifest(server.url)
    assert remote.digest == manifest.digest
    with ShardReader(manifest) as local, ShardReader(remote, cache=cache) as reader:
        for row in range(len(manifest)):
            assert reader.read(row) == local.read(row)
            assert reader.read_window(row, 1, 2) == local.read_window(row, 1, 2)
    assert bool(list(own_cache.rglob("*.tar"))) == cache


def test_a_web_server_without_ranges_is_named(
    server: WebServer, manifest: Manifest, own_cache: Path
) -> None:
    server.has_ranges = False
    remote = read_manifest(server.url)  # files as a whole need no ranges
    with ShardReader(remote, cache=False) as reader:
        message = fault_of(reader.read, 0)
    assert "that were asked for, so the server ignores ranges" in message
    with ShardReader(manifest) as local, ShardReader(remote) as reader:
        assert reader.read(0) == local.read(0)


@pytest.mark.parametrize(
    "read",
    [
        lambda url, shard: read_manifest(url),
        lambda url, shard: RemoteStore(url).read_range(shard, 0, 1000),
    ],
    ids=["dataset.json", "a range"],
)
def test_an_answer_that_is_longer_than_asked_for_is_left(
    server: WebServer, manifest: Manifest, own_cache: Path, read: Callable[[str, str], object]
) -> None:
    server.num_blocks = 400
    with pytest.raises(OriginalError, match=r"more than the \d+ bytes arrived"):
        read(server.url, manifest.shard_names[0])
    assert server.num_sent < 100  # what fits into the buffers of both sides


def test_a_row_of_a_terabyte_is_not_requested(
    server: WebServer, manifest: Manifest, tmp_path: Path, own_cache: Path
) -> None:
    remote = read_manifest(server.url)
    sizes = remote.sizes.copy()
    sizes[0] = MAX_FILE_BYTES + 1
    vars(remote)["sizes"] = sizes
    with ShardReader(remote, cache=False) as reader:
        message = fault_of(reader.read, 0)
    assert f"its row says {MAX_FILE_BYTES + 1} bytes, and without a copy" in message
