"""The mark of tests that fork beside other threads, of which Python 3.12 and later warn."""

import pytest

forks = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
