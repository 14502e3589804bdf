"""Videos whose frames show their numbers."""

from pathlib import Path

from tests.make_videos import make_video
from tests.numbered import numbered_paint, read_number
from tests.shards.helpers import decoded_frames

_HEIGHT_PX, _WIDTH_PX = 96, 128


def make_numbered(path: Path, num_frames: int, **options: object) -> Path:
    """A video of numbered frames; the options are those of `make_video`."""
    return make_video(
        path,
        num_frames=num_frames,
        height=_HEIGHT_PX,
        width=_WIDTH_PX,
        paint=numbered_paint(_HEIGHT_PX, _WIDTH_PX),
        **options,  # type: ignore[arg-type]
    )


def numbers_in(data: bytes) -> list[int]:
    """The numbers that the frames of an encoded video show."""
    return [read_number(frame.to_ndarray(format="gray")) for frame in decoded_frames(data)]
