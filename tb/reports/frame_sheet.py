"""A picture of one video: frames evenly spaced over its length."""

import io
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from shards.encode.video_stream import open_video
from shards.format.manifest import Manifest
from shards.reader import ShardReader
from tb.named_paths import write_named_file

_TILE_WIDTH_PX = 240
_MARGIN_PX = 4
_CAPTION_PX = 14


def frame_sheet(data: bytes, num_frames: int, num_tiles: int = 16) -> Image.Image:
    """Frames with their numbers, left to right and top to bottom.

    Args:
        data: An encoded video.
        num_frames: How many frames it has.
        num_tiles: How many to show at most; 1 shows the first frame, more include the last too.
    """
    wanted = np.unique(np.round(np.linspace(0, num_frames - 1, num_tiles)).astype(int))
    tiles = _frames(data, {int(index) for index in wanted})
    width, height = next(iter(tiles.values())).size
    columns = ceil(sqrt(len(tiles)))
    rows = ceil(len(tiles) / columns)
    step_x, step_y = width + _MARGIN_PX, height + _CAPTION_PX + _MARGIN_PX
    sheet = Image.new("RGB", (columns * step_x + _MARGIN_PX, rows * step_y + _MARGIN_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (index, tile) in enumerate(sorted(tiles.items())):
        x = _MARGIN_PX + place % columns * step_x
        y = _MARGIN_PX + place // columns * step_y
        sheet.paste(tile, (x, y))
        draw.text((x, y + height), str(index), fill="black")
    return sheet


def write_frame_sheet(path: Path, manifest: Manifest, row: int, num_tiles: int = 16) -> None:
    """Draws frames of a stored video into a PNG file.

    Args:
        path: The file.
        manifest: The shards.
        row: The row of the video.
        num_tiles: How many frames to draw.

    Raises:
        ShardError: The video cannot be read.
        InputError: The file cannot be written.
    """
    with ShardReader(manifest) as reader:
        sheet = frame_sheet(reader.read(row), int(manifest.num_frames[row]), num_tiles)
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    write_named_file(path, png.getvalue(), "png")


def _frames(data: bytes, wanted: set[int]) -> dict[int, Image.Image]:
    tiles: dict[int, Image.Image] = {}
    with open_video(data) as (container, stream):
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                height = max(1, round(frame.height * _TILE_WIDTH_PX / frame.width))
                image = Image.fromarray(frame.to_ndarray(format="rgb24"))
                tiles[index] = image.resize((_TILE_WIDTH_PX, height))
    return tiles
