"""What several tests share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import InputError
from tests.make_videos import make_video


def make_set(root: Path) -> Path:
    """Two classes of five videos of 20 frames, 96 x 128."""
    for class_name in ("spin", "jump"):
        for index in range(5):
            make_video(root / class_name / f"{class_name}{index}.mp4", num_frames=20, seed=index)
    return root


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
