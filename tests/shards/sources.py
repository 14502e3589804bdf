"""What tests of the sources share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import InputError


def touch(root: Path, *names: str) -> Path:
    """Empty files below root; listing does not open them."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def fault_of(call: Callable[..., object], *args: object, **kwargs: object) -> str:
    """The one line that the call complains with."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message
