"""Pictures of predictions: a video's frames beside its classes, or its classes over time.

Only the best classes are drawn, because a picture of hundreds of classes cannot be read.
"""

import io
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from shards.encode.upright import open_upright
from tb.prediction.prediction import Prediction
from tb.prediction.video_clips import naming_errors

_NUM_FRAMES = 4
_FRAME_PX = 160  # height
_GAP = ((0, 0), (0, 4), (0, 0))  # px to the right of a frame
MAX_VIDEOS = 40
"""How many videos a picture shows at most."""
_MAX_NAME = 60
# Names must not be read as formulas, even if they have dollar signs.
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
_BEST, _OTHER = "#2b6cb0", "#bcd0e8"


def prediction_png(predictions: Sequence[Prediction], top: int, *, is_timeline: bool) -> bytes:
    """The predictions for the first `MAX_VIDEOS` videos, with their `top` classes, as a PNG file.

    Args:
        predictions: For videos, or for stretches of videos in their order.
        top: How many classes to draw for each video.
        is_timeline: Draw the classes over time instead of frames.

    Raises:
        InputError: A file has changed since it was predicted.
    """
    videos = answers_by_video(predictions)[:MAX_VIDEOS]
    num_classes = min(top, len(predictions[0].classes))
    with matplotlib.rc_context(_STYLE):
        figure = _timelines(videos, num_classes) if is_timeline else _sheet(videos, num_classes)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=120, metadata={"Software": None})
        return file.getvalue()


def answers_by_video(predictions: Sequence[Prediction]) -> list[list[Prediction]]:
    """The predictions for each video; those for one video must follow each other."""
    return [list(group) for _, group in groupby(predictions, key=lambda one: one.video)]


def _timelines(videos: list[list[Prediction]], num_classes: int) -> Figure:
    """A panel for each video: a row for each of its best classes, its time from left to right."""
    heights = [0.9 + 0.24 * num_classes for _ in videos]
    figure = Figure(figsize=(10, sum(heights)), layout="constrained")
    panels = figure.subplots(len(videos), 1, squeeze=False)[:, 0]
    for axes, stretches in zip(panels, videos, strict=True):
        shares = np.stack([one.probabilities for one in stretches], axis=1)  # (K, stretches)
        # A class that is likely at some time comes before one that is always a little likely.
        best = np.argsort(-shares.max(axis=1), kind="stable")[:num_classes]
        ends = [one.end_s or 0.0 for one in stretches]
        unit, scale = ("min", 60.0) if ends[-1] > 180 else ("s", 1.0)
        edges = np.array([stretches[0].begin_s, *ends]) / scale
        image = axes.pcolormesh(
            edges, np.arange(len(best) + 1), shares[best], cmap="Blues", vmin=0, vmax=1
        )
        axes.set_yticks(np.arange(len(best)) + 0.5, [stretches[0].classes[c] for c in best])
        axes.invert_yaxis()
        axes.set_xlabel(unit)
        axes.set_title(_short(stretches[0].video), loc="left")
        figure.colorbar(image, ax=axes, label="probability", pad=0.01)
    return figure


def _sheet(videos: list[list[Prediction]], num_classes: int) -> Figure:
    """A row for each video: some of its frames, and bars for its best classes."""
    height = max(1.5, 0.55 + 0.2 * num_classes)
    figure = Figure(figsize=(11, height * len(videos)), layout="constrained")
    panels = figure.subplots(len(videos), 2, squeeze=False, width_ratios=(3, 2))
    for (left, right), (one, *_) in zip(panels, videos, strict=True):
        left.set_title(_short(one.video), loc="left")
        left.axis("off")
        left.set_anchor("NW")
        path = Path(one.video)  # not the video's path if the file's name is not UTF-8
        if one.end_s is not None and path.is_file():
            left.imshow(_film(path))
        _bars(right, one, num_classes)
    return figure


def _bars(axes: Axes, one: Prediction, num_classes: int) -> None:
    names, shares = zip(*one.top(num_classes), strict=True)
    places = range(len(names))
    axes.barh(places, shares, color=[_BEST, *[_OTHER] * (len(names) - 1)])
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    for place, share in zip(places, shares, strict=True):
        inside = share > 0.8
        axes.text(
            share - 0.01 if inside else share + 0.01,
            place,
            f"{share:.0%}",
            va="center",
            ha="right" if inside else "left",
            color="white" if inside and place == 0 else "black",
        )


def _film(path: Path) -> np.ndarray:
    """(height, width, 3) uint8: frames from the whole video, side by side."""
    tiles: list[np.ndarray] = []
    with naming_errors(path), open_upright(path) as video:
        height, width = video.size
        width_px = max(1, round(width * _FRAME_PX / height))
        step = max(1, video.num_promised // _NUM_FRAMES)
        for number, frame in enumerate(video.frames):
            if number == len(tiles) * step + step // 2:
                small = frame.reformat(width=width_px, height=_FRAME_PX, format="rgb24")
                tiles.append(np.pad(small.to_ndarray(), _GAP, constant_values=255))
                if len(tiles) == _NUM_FRAMES:
                    break
    return np.concatenate(tiles, axis=1)


def _short(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"...{name[-_MAX_NAME:]}"
