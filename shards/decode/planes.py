"""`Planes`: where the pixels of decoded frames lie, and which colours their numbers stand for."""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from av.video import reformatter
from av.video.frame import VideoFrame

from shards.format.video import FULL_RANGE_FORMATS, ColorMatrix, ColorRange

PLANAR_420 = {"yuv420p", "yuvj420p"}


class Colors(NamedTuple):
    """How to interpret the numbers of a picture."""

    matrix: ColorMatrix
    range: ColorRange


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Where the 8-bit Y, U and V planes of N frames (4:2:0) lie, without a copy.

    Attributes:
        owner: Owns the memory of the planes: the frames, or the decoder that holds them.
        addresses: (N, 3) int64.
        strides: (N, 3) int64, bytes from one row to the next.
        colors: The colours of all N frames.
    """

    owner: object
    addresses: np.ndarray
    strides: np.ndarray
    colors: Colors

    def pixels(self, frame: int, plane: int, size: Sequence[int]) -> np.ndarray:
        """One plane of one frame, in the memory of the owner.

        Args:
            frame: 0 to N - 1.
            plane: 0, 1 and 2 are Y, U and V.
            size: (height, width) of the picture.

        Returns:
            (height, width) uint8 for Y; half of that, rounded up, for U and V.
        """
        rows, columns = size if plane == 0 else [(side + 1) // 2 for side in size]
        stride = int(self.strides[frame, plane])
        memory = ctypes.c_uint8 * ((rows - 1) * stride + columns)
        held = memory.from_address(int(self.addresses[frame, plane]))
        return np.ndarray((rows, columns), np.uint8, memoryview(held), strides=(stride, 1))


def tagged_colors(color_space: int, color_range: int, *, is_full_format: bool) -> Colors:
    """What FFmpeg's tags of a stream or of a frame say.

    The range is limited unless a tag says that it is full. Without tags the matrix is BT.601, as in
    FFmpeg's scaler.

    Args:
        color_space: FFmpeg's AVColorSpace.
        color_range: FFmpeg's AVColorRange.
        is_full_format: Whether the pixel format by itself means the full range.
    """
    is_full = is_full_format or color_range == reformatter.ColorRange.JPEG
    return Colors(
        ColorMatrix.BT709 if color_space == reformatter.Colorspace.ITU709 else ColorMatrix.BT601,
        ColorRange.FULL if is_full else ColorRange.LIMITED,
    )


def frame_colors(frame: VideoFrame) -> Colors:
    """The colours of a frame, by its tags."""
    return tagged_colors(
        int(frame.colorspace),
        int(frame.color_range),
        is_full_format=frame.format.name in FULL_RANGE_FORMATS,
    )


def frame_planes(frames: list[VideoFrame], colors: Colors) -> Planes:
    """The planes of the frames of one video; frames in another format are converted to 4:2:0."""
    if frames[0].format.name not in PLANAR_420:
        is_full = colors.range is ColorRange.FULL
        range_ = reformatter.ColorRange.JPEG if is_full else reformatter.ColorRange.MPEG
        frames = [
            frame.reformat(format="yuv420p", src_color_range=range_, dst_color_range=range_)
            for frame in frames
        ]
    places = np.array(
        [[(plane.buffer_ptr, plane.line_size) for plane in frame.planes] for frame in frames]
    )
    return Planes(
        owner=frames,
        addresses=np.ascontiguousarray(places[..., 0]),
        strides=np.ascontiguousarray(places[..., 1]),
        colors=colors,
    )


def are_same_planes(one: Planes, other: Planes, size: Sequence[int]) -> bool:
    """Whether both have the same colours, and as many frames of the same pixels.

    Args:
        one: Of frames of this size.
        other: Of frames of this size.
        size: (height, width) of the pictures.
    """
    if one.colors != other.colors or one.addresses.shape != other.addresses.shape:
        return False
    return all(
        np.array_equal(one.pixels(frame, plane, size), other.pixels(frame, plane, size))
        for frame, plane in np.ndindex(one.addresses.shape)
    )


def are_same_pictures(
    frames: Iterator[VideoFrame], turns: Iterator[tuple[int, Planes]], size: Sequence[int]
) -> bool:
    """Whether frames are 8-bit 4:2:0, and their planes and colours are those of the turns.

    Args:
        frames: All of one size.
        turns: (k, planes of some frames), of which the first is frame k. A turn that is not the
            next one shows that its decoder has begun again, and is a difference.
        size: (height, width) of the pictures.
    """
    num_same = 0
    for k, planes in turns:
        turn = list(islice(frames, len(planes.addresses)))
        kinds = {(frame.format.name in PLANAR_420, frame_colors(frame)) for frame in turn}
        if k != num_same or kinds != {(True, planes.colors)}:
            return False
        if not are_same_planes(frame_planes(turn, planes.colors), planes, size):
            return False
        num_same += len(turn)
    return next(frames, None) is None
