"""The videos and runs that the code of the pages reads."""

from tests.loaders.conftest import compiled_engine as compiled_engine
from tests.loaders.conftest import numbered_shards as numbered_shards
from tests.tb.conftest import config as config
from tests.tb.conftest import finished as finished
from tests.tb.conftest import manifest as manifest
