"""Paths and URLs are kept apart."""

import os
from pathlib import Path

import pytest

from shards.errors import InputError
from shards.files.addresses import local_path, remote_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://bucket/a", "s3://bucket/a"),
        ("s3:/bucket/a/", "s3://bucket/a"),
        ("gs://b", "gs://b"),
        ("S3://Bucket/A", "s3://Bucket/A"),
        ("file:///data/x", "file:///data/x"),
        ("FILE:///data/x", "file:///data/x"),
        ("a::b/x", None),
        ("/data/x", None),
        ("data/x", None),
        ("c:/data", None),
        (os.curdir, None),
    ],
)
def test_urls_are_told_from_paths(text: str, url: str | None) -> None:
    assert remote_url(text) == url
    assert remote_url(Path(text)) == url


@pytest.mark.parametrize(
    "text", ["simplecache::s3://bucket/a", "zip://a.zip::file:///data/x", "a::b::s3://c"]
)
def test_a_chain_of_addresses_is_no_folder(text: str) -> None:
    for root in (text, Path(text)):
        with pytest.raises(InputError, match="a chain of addresses; give one address"):
            local_path(root)
