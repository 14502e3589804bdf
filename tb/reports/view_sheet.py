"""A picture of what the networks see: all frames of the long and short views of a few videos."""

import io
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from loaders import Batch, Loader, Part, open_loader
from shards.format.manifest import Manifest
from tb.config.sections import Config
from tb.method.streams import pretrain_views
from tb.named_paths import write_named_file

_THUMB_PX = 32
_LABEL_PX = 48
_TEXT_PX = 13
_GAP_PX = 14
_INK, _PAPER = (40, 40, 40), (255, 255, 255)
_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def view_sheet(manifest: Manifest, config: Config, *, num_videos: int = 3) -> Image.Image:
    """One column for each video: its 2 long and 2 x 4 short views, as pretraining sees them.

    The videos are those of the first batch of epoch 0. The number under a frame is its index in the
    video.

    Raises:
        InputError: The train split is empty.
    """
    with closing(_loader(manifest, config, num_videos)) as loader, closing(loader.batches(0)) as it:
        batch = next(it)
    columns = [
        _column(batch, index, manifest.classes[manifest.labels[row]])
        for index, row in enumerate(batch.plan.rows.tolist())
        if row >= 0
    ]
    width = sum(column.width for column in columns) + _GAP_PX * (len(columns) - 1)
    sheet = Image.new("RGB", (width, columns[0].height), _PAPER)
    left = 0
    for column in columns:
        sheet.paste(column, (left, 0))
        left += column.width + _GAP_PX
    return sheet


def _loader(manifest: Manifest, config: Config, num_videos: int) -> Loader:
    return open_loader(
        manifest,
        pretrain_views(config),
        subset=config.labels.subset(Part.ALL),
        batch_size=num_videos,
        cache=config.machine.cache,
        engine=config.machine.engine,
        device="cpu",
        in_process=config.machine.in_process,
        dtype="uint8",
        seed=config.machine.seed,
    )


def write_view_sheet(
    manifest: Manifest, config: Config, path: Path, *, num_videos: int = 3
) -> None:
    """Writes `view_sheet` as a PNG file; InputError where `path` cannot be written."""
    data = png_bytes(view_sheet(manifest, config, num_videos=num_videos))
    write_named_file(path, data, "out")


def png_bytes(image: Image.Image) -> bytes:
    """The picture as the content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _column(batch: Batch, index: int, class_name: str) -> Image.Image:
    """All views of one video, one below the other."""
    clips: list[tuple[str, torch.Tensor]] = []
    for name, group in batch.views.items():
        views = group[index].flatten(0, -5)  # (views, 3, T, H, W)
        clips += [(f"{name} {number + 1}", clip) for number, clip in enumerate(views)]
    num_frames = clips[0][1].shape[1]
    row_px = _THUMB_PX + _TEXT_PX + 2
    width, title_px = _LABEL_PX + num_frames * (_THUMB_PX + 1), 2 * _TEXT_PX + 4
    picture = Image.new("RGB", (width, title_px + row_px * len(clips)), _PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(10)
    draw.text((2, 1), _fitting(f"{class_name}: {batch.keys[index]}", width - 4, font), _INK, font)
    if batch.plan.padded[index]:
        note = _fitting("reflected: shorter than the window", width - 4, font)
        draw.text((2, 1 + _TEXT_PX), note, _INK, font)
    for row, (name, clip) in enumerate(clips):
        top = title_px + row * row_px
        draw.text((2, top + _THUMB_PX // 2 - 6), name, _INK, font)
        for t in range(num_frames):
            left = _LABEL_PX + t * (_THUMB_PX + 1)
            pixels = np.ascontiguousarray(clip[:, t].permute(1, 2, 0).numpy())
            thumb = Image.fromarray(pixels).resize((_THUMB_PX, _THUMB_PX), Image.Resampling.NEAREST)
            picture.paste(thumb, (left, top))
            number = str(int(batch.plan.frames[index, row, t]))
            draw.text((left + 2, top + _THUMB_PX), number, _INK, font)
    return picture


def _fitting(text: str, width_px: int, font: _Font) -> str:
    """The text if it fits into the width, else its beginning and three dots."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(f"{text}...") > width_px:
        text = text[:-1]
    return f"{text}..."
