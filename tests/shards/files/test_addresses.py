"""Paths and URLs are kept apart."""

import os
from pathlib import Path

import pytest

from shards.files.addresses import remote_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        ("s3:/bucket/a/", "s3://bucket/a"),
        ("gs://b", "gs://b"),
        ("file:///data/x", "file:///data/x"),
        ("/data/x", None),
        ("data/x", None),
        ("c:/data", None),
        (os.curdir, None),
    ],
)
def test_urls_are_told_from_paths(text: str, url: str | None) -> None:
    assert remote_url(text) == url
    assert remote_url(Path(text)) == url
