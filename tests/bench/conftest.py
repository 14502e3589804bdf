"""The videos that a bench is timed on, and those that it trains on."""

from tests.loaders.conftest import textured_shards as textured_shards
from tests.tb.conftest import manifest as manifest
