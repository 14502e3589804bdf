"""The videos that a bench is timed on."""

from tests.loaders.conftest import textured_shards as textured_shards
