"""The videos that the code of the pages reads."""

from tests.loaders.conftest import numbered_shards as numbered_shards
