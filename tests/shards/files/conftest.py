"""A server for S3, an empty place behind a URL, and a folder for copies."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from bench.s3_server import CREDENTIALS, s3_server


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TIMEBALANCE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place, another one for each test."""
    name = f"b{abs(hash(request.node.name))}"
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_endpoint"))
        for variable, value in CREDENTIALS.items():
            monkeypatch.setenv(variable, value)
        # fsspec keeps its connections, also those to another test's address.
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        fsspec.filesystem("s3").mkdir(name)
    return f"{request.param}://{name}/data/set"
