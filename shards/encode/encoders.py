"""What each encoder is told, so that its output is easy to enter anywhere and to decode fast.

Common to all: one thread (the same bytes everywhere), closed groups of pictures of fixed length,
no B-frames, no keyframes at scene cuts, at most one reference frame: decoders are reused only
between videos that agree, and no frame waits for a later one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shards.encode.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder of FFmpeg's; `options` gives its settings for a recipe."""

    name: str
    options: Callable[[Recipe], dict[str, str]]
    pix_fmt: str = "yuv420p"
    codec_tag: str | None = None

    @property
    def is_full_range(self) -> bool:
        """Whether luma runs from 0 to 255 instead of 16 to 235."""
        return self.pix_fmt.startswith("yuvj")


def _h264(recipe: Recipe) -> dict[str, str]:
    return {
        "crf": str(recipe.quality),
        "preset": recipe.preset,
        "tune": "fastdecode",
        # One profile and level for every size, rate and preset; NVDEC takes this level everywhere.
        "profile": "high",
        "8x8dct": "1",
        "level": "5.1",
        "bf": "0",
        "refs": "1",
        "g": str(recipe.gop),
        "keyint_min": str(recipe.gop),
        "sc_threshold": "0",
        # x264 165 reads memory that it has not set when this is on: rare differences in the bytes.
        "mbtree": "0",
    }


def _hevc(recipe: Recipe) -> dict[str, str]:
    gop = f"keyint={recipe.gop}:min-keyint={recipe.gop}:scenecut=0:open-gop=0:bframes=0:ref=1"
    # No info: it would write the machine's capabilities into every stream.
    threads = "pools=none:frame-threads=1:wpp=0:info=0:log-level=none"
    return {
        "crf": str(recipe.quality),
        "preset": recipe.preset,
        "tune": "fastdecode",
        "x265-params": f"{gop}:{threads}",
    }


def _vp9(recipe: Recipe) -> dict[str, str]:
    return {
        "crf": str(recipe.quality),
        "b": "0",
        "g": str(recipe.gop),
        "keyint_min": str(recipe.gop),
        "deadline": "good",
        "cpu-used": "5",
        # Hidden frames that show up later are B-frames by another name.
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "tile-columns": "0",
        "row-mt": "0",
    }


def _mjpeg(recipe: Recipe) -> dict[str, str]:
    return {"qmin": str(recipe.quality), "qmax": str(recipe.quality)}


ENCODERS = {
    "h264": Encoder(name="libx264", options=_h264),
    "hevc": Encoder(name="libx265", options=_hevc, codec_tag="hvc1"),
    "vp9": Encoder(name="libvpx-vp9", options=_vp9),
    # JPEG knows full range only; the "j" formats are FFmpeg's name for that.
    "mjpeg": Encoder(name="mjpeg", options=_mjpeg, pix_fmt="yuvj420p"),
}
