"""What differs from codec to codec: limits, pixel format, encoder options.

All encoders follow the same rules, so that decoding is fast and can begin at any keyframe. They use
one thread, because the bytes are then the same everywhere. They write closed groups of pictures of
fixed length, no B-frames, no keyframes at scene cuts, and at most one reference frame. No frame
then waits for a later one, and a decoder can go from one video to the next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """What a recipe tells an encoder.

    Attributes:
        quality: The quality on the scale of the encoder; lower is better.
        gop: Frames from one keyframe to the next; 0 for a codec with only keyframes.
        preset: The preset of x264 or x265; "" for other encoders.
    """

    quality: int
    gop: int
    preset: str


def _h264(settings: EncoderSettings) -> dict[str, str]:
    return {
        "crf": str(settings.quality),
        "preset": settings.preset,
        "tune": "fastdecode",
        # All sizes, rates and presets have one profile and level. Every NVDEC decodes this level.
        "profile": "high",
        "8x8dct": "1",
        "level": "5.1",
        "bf": "0",
        "refs": "1",
        "g": str(settings.gop),
        "keyint_min": str(settings.gop),
        "sc_threshold": "0",
        # With this on, x264 165 reads memory that it has not set, so its bytes sometimes differ.
        "mbtree": "0",
    }


def _hevc(settings: EncoderSettings) -> dict[str, str]:
    gop = f"keyint={settings.gop}:min-keyint={settings.gop}:scenecut=0:open-gop=0:bframes=0:ref=1"
    # info=0: otherwise x265 writes the capabilities of this machine into every stream.
    threads = "pools=none:frame-threads=1:wpp=0:info=0:log-level=none"
    return {
        "crf": str(settings.quality),
        "preset": settings.preset,
        "tune": "fastdecode",
        "x265-params": f"{gop}:{threads}",
    }


def _vp9(settings: EncoderSettings) -> dict[str, str]:
    return {
        "crf": str(settings.quality),
        "b": "0",
        "g": str(settings.gop),
        "keyint_min": str(settings.gop),
        "deadline": "good",
        "cpu-used": "5",
        # Without these two, the encoder writes hidden frames that are shown later, like B-frames.
        "lag-in-frames": "0",
        "auto-alt-ref": "0",
        "tile-columns": "0",
        "row-mt": "0",
    }


def _mjpeg(settings: EncoderSettings) -> dict[str, str]:
    return {"qmin": str(settings.quality), "qmax": str(settings.quality)}


def _no_options(settings: EncoderSettings) -> dict[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A way to store videos.

    Attributes:
        encoder: FFmpeg's name of the encoder; "" means that files are kept as they are.
        best_quality: The lowest quality number that is allowed.
        worst_quality: The highest quality number that is allowed.
        min_side_px: NVDEC refuses pictures with a side below this.
        options: Gives the options of the encoder for the settings of a recipe.
        has_gop: Whether a recipe sets the number of frames from one keyframe to the next.
        has_preset: Whether a recipe sets the preset of the encoder.
        pixel_format: FFmpeg's name of the stored pixel format.
        is_full_range: Whether luma runs from 0 to 255 instead of 16 to 235.
        only_matrix: The only colour matrix of the codec, whatever a container says; "" if the codec
            has tags for several.
        container_tag: The tag of the stream in the container; None means FFmpeg's choice.
    """

    encoder: str
    best_quality: int
    worst_quality: int
    min_side_px: int
    options: Callable[[EncoderSettings], dict[str, str]]
    has_gop: bool = True
    has_preset: bool = False
    pixel_format: str = "yuv420p"
    is_full_range: bool = False
    only_matrix: str = ""
    container_tag: str | None = None

    @cached_property
    def keeps_files(self) -> bool:
        """Whether files are kept as they are."""
        return not self.encoder


CODECS = {
    "h264": Codec(
        encoder="libx264",
        best_quality=1,  # 0 is lossless, in a profile that NVDEC does not decode
        worst_quality=51,
        min_side_px=64,
        options=_h264,
        has_preset=True,
    ),
    "hevc": Codec(
        encoder="libx265",
        best_quality=0,
        worst_quality=51,
        min_side_px=144,
        options=_hevc,
        has_preset=True,
        container_tag="hvc1",
    ),
    "vp9": Codec(
        encoder="libvpx-vp9",
        best_quality=0,
        worst_quality=63,
        min_side_px=128,
        options=_vp9,
    ),
    "mjpeg": Codec(
        encoder="mjpeg",
        best_quality=2,
        worst_quality=31,
        min_side_px=64,
        options=_mjpeg,
        has_gop=False,
        pixel_format="yuvj420p",
        is_full_range=True,  # JPEG has no other range; the "j" says so
        only_matrix="bt601",
    ),
    "copy": Codec(
        encoder="",
        best_quality=0,
        worst_quality=0,
        min_side_px=64,
        options=_no_options,
        has_gop=False,
    ),
}
