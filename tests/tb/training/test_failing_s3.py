"""Training from S3 (a real server on loopback) behind a proxy that fails for a while."""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from bench.s3_server import CREDENTIALS, s3_server
from loaders import LoaderError
from shards.errors import InputError
from shards.format.dataset_json import DATASET_NAME
from shards.format.earlier_states import MANIFEST_NAME
from shards.format.manifest import Manifest, read_manifest
from shards.format.packet_index import packets_name
from shards.ingestion.ingest import ingest
from shards.sources.folder import from_folder
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.method.baselines import supervised_only_stage
from tb.training.bad_videos import read_bad_list
from tb.training.loop import train
from tb.weights.checkpoint import CHECKPOINT, file_digest
from tests.failing_proxy import FailingProxy, failing_proxy
from tests.tb.conftest import QUICK
from tests.tb.training.test_changed_shards import disturbed
from tests.tb.training.test_full_disk import has_mounts, run, the_error, training

URL = "s3://failing/set"


def settings(*more: str) -> Config:
    return load_config("demo", (*QUICK, "machine.tensorboard=false", *more))


def use(patch: pytest.MonkeyPatch, endpoint: str, failure: str = "") -> None:
    """Makes fsspec talk to an address. If the server will be silent, fsspec waits for 1 s only."""
    for variable, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": endpoint}.items():
        patch.setenv(variable, value)
    timeout_s = 1 if failure in ("silent", "stalled") else 60
    patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": timeout_s}})
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture(scope="module")
def server(manifest: Manifest) -> Iterator[str]:
    """An S3 server that holds the videos in a few shards."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        use(patch, endpoint)
        fsspec.filesystem("s3").mkdir("failing")
        videos = from_folder(manifest.root.parent / "videos", min_per_class=1)
        ingest(videos, URL, shard_bytes=200_000)
        yield endpoint


@pytest.fixture
def proxy(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingProxy]:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    with failing_proxy(server) as found:
        use(monkeypatch, found.address)
        yield found


@pytest.fixture(scope="module")
def undisturbed(server: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of a run that nothing disturbs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIMEBALANCE_CACHE", str(tmp_path_factory.mktemp("cache")))
        stage = supervised_only_stage(read_manifest(URL), settings())
        return file_digest(train(stage, tmp_path_factory.mktemp("whole"), settings()))


def slow(*values: object) -> list[object]:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.mark.parametrize("cache", [True, *slow(False)])
@pytest.mark.parametrize(
    "failure", ["500", "half", *slow("503", "closed", "silent", "stalled", "slow")]
)
def test_a_server_that_fails_for_a_while_changes_nothing(
    proxy: FailingProxy,
    undisturbed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
    cache: bool,
) -> None:
    use(monkeypatch, proxy.address, failure)
    _train_while_it_fails(proxy, failure, undisturbed, tmp_path, f"machine.cache={cache}".lower())


@pytest.mark.slow
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("failure", ["500", "half", "closed", "slow"])
def test_a_server_that_fails_for_a_while_changes_nothing_for_a_loader_process(
    proxy: FailingProxy, undisturbed: str, tmp_path: Path, failure: str, cache: bool
) -> None:
    settings = (f"machine.cache={cache}".lower(), "machine.in_process=false")
    _train_while_it_fails(proxy, failure, undisturbed, tmp_path, *settings)


def _train_while_it_fails(
    proxy: FailingProxy, failure: str, undisturbed: str, folder: Path, *more: str
) -> None:
    config = settings(*more)
    stage = supervised_only_stage(read_manifest(URL), config)
    proxy.failures.extend([failure] * 3)
    path = train(stage, folder / "work", config)
    assert proxy.failed[failure] == 3
    assert file_digest(path) == undisturbed


@pytest.mark.parametrize("failure", ["500", *slow("half", "closed", "stalled")])
@pytest.mark.parametrize("file", [DATASET_NAME, MANIFEST_NAME, packets_name("")])
def test_a_server_that_fails_at_what_describes_the_videos_changes_nothing(
    proxy: FailingProxy,
    undisturbed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
    file: str,
) -> None:
    use(monkeypatch, proxy.address, failure)
    proxy.file = file
    proxy.failures.append(failure)
    path = train(supervised_only_stage(read_manifest(URL), settings()), tmp_path, settings())
    assert proxy.failed[failure] == 1
    assert file_digest(path) == undisturbed


@pytest.mark.parametrize("failure", ["500", *slow("503", "half")])
def test_a_server_that_stays_away_ends_the_run_which_then_goes_on(
    proxy: FailingProxy,
    undisturbed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    config = settings("machine.cache=false", "machine.num_workers=1")

    def fail() -> None:
        proxy.failures.extend([failure] * 100_000)

    stage = disturbed(supervised_only_stage(read_manifest(URL), config), 0, fail)
    with pytest.raises(LoaderError, match=r"\w+ in s3:.*; check the address, the credentials and"):
        train(stage, tmp_path / "work", config)
    proxy.failures.clear()
    monkeypatch.delenv("AWS_MAX_ATTEMPTS")
    use(monkeypatch, proxy.address)  # a new client, which tries again as often as usual
    path = train(supervised_only_stage(read_manifest(URL), config), tmp_path / "work", config)
    assert file_digest(path) == undisturbed


@pytest.mark.parametrize("file", [DATASET_NAME, MANIFEST_NAME, packets_name("")])
def test_a_server_that_does_not_describe_the_videos_is_named(
    proxy: FailingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    proxy.file = file
    proxy.failures.extend(["500"] * 100_000)
    message = f"s3://failing/set/.*{re.escape(file)}: .*; check the address, the credentials and"
    with pytest.raises((InputError, LoaderError), match=message):
        train(supervised_only_stage(read_manifest(URL), settings()), tmp_path, settings())


def test_a_server_that_stays_away_is_more_than_a_few_bad_videos(
    proxy: FailingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    config = settings("machine.cache=false", "machine.on_error=skip")
    stage = supervised_only_stage(read_manifest(URL), config)
    proxy.failures.extend(["500"] * 100_000)
    with pytest.raises(LoaderError, match="bad videos in epoch 0, more than max_bad_share"):
        train(stage, tmp_path / "work", config)
    assert read_bad_list(tmp_path / "work" / "supervised")


@pytest.mark.slow
def test_a_cache_without_room_is_no_bad_video(
    proxy: FailingProxy, undisturbed: str, tmp_path: Path
) -> None:
    if not has_mounts():
        pytest.skip("no user namespaces here, so no small disk")
    cache, work = Path(os.environ["TIMEBALANCE_CACHE"]), tmp_path / "work"
    cache.mkdir(exist_ok=True)
    words = [sys.executable, "-m", "tb.cli", *training(URL, work, "machine.on_error=skip")]
    mounted = 'mount -t tmpfs -o size=64k tmpfs "$TIMEBALANCE_CACHE" && exec "$@"'
    done = run(["unshare", "-Urm", "sh", "-c", mounted, "sh", *words])
    assert done.returncode == 2
    assert "No space left on device; free some space, or set TIMEBALANCE_CACHE" in the_error(done)
    assert not read_bad_list(work / "supervised")
    assert run(words).returncode == 0
    assert file_digest(work / "supervised" / CHECKPOINT) == undisturbed
