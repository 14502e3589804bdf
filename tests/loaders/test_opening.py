"""How many threads a loader has by default, alone and as one of several processes."""

from collections.abc import Callable

import pytest

from loaders import ViewSpec, open_loader
from loaders.engines.engine import EngineName
from loaders.placement import Making
from loaders.plan.planner import Planner
from loaders.producer import Producer
from shards.errors import InputError
from shards.format.manifest import Manifest

NumThreads = Callable[..., int]


@pytest.fixture
def num_threads(
    numbered_shards: Manifest, tiny_views: ViewSpec, monkeypatch: pytest.MonkeyPatch
) -> NumThreads:
    """The threads of a loader that is opened with some arguments, on 16 cores."""
    made: list[int] = []
    opened = Making.open

    def noted(making: Making, planner: Planner, engine: EngineName) -> Producer:
        made.append(making.num_workers)
        return opened(making, planner, engine)

    monkeypatch.setattr(Making, "open", noted)
    monkeypatch.setattr("loaders.opening.num_cpus", lambda: 16)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def found(**arguments: int) -> int:
        open_loader(numbered_shards, tiny_views, engine="fused", device="cpu", **arguments).close()
        return made[-1]

    return found


def test_the_processes_of_a_machine_share_its_cores(
    num_threads: NumThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loader that only one process opens has them all, and a given number is taken."""
    assert num_threads(rank=1, world_size=2) == 16  # nobody says how many are on this machine
    for number, share in (("1", 16), ("3", 5), ("8", 2), ("64", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", number)
        assert num_threads(rank=1, world_size=2) == share
        assert num_threads() == 16
        assert num_threads(rank=1, world_size=2, num_workers=3) == 3


@pytest.mark.parametrize("number", ["", "two", "0", "-1"])
def test_a_wrong_number_of_processes_is_named(
    num_threads: NumThreads, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", number)
    with pytest.raises(InputError, match=f"LOCAL_WORLD_SIZE is '{number}', which is no number"):
        num_threads(rank=1, world_size=2)
