"""The videos that the benches time and train on."""

from tests.loaders.conftest import textured_shards as textured_shards
from tests.tb.conftest import manifest as manifest
