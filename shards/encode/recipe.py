"""How videos are stored: the choices, with their checks."""

from dataclasses import dataclass

from shards.encode.geometry import STEP_PX
from shards.errors import InputError

# Sides below these are refused by NVDEC.
MIN_SIDE_PX = {"h264": 64, "hevc": 144, "vp9": 128, "mjpeg": 64, "copy": 64}
CODECS = tuple(MIN_SIDE_PX)
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")
_DEFAULT_QUALITY = {"h264": 18, "hevc": 20, "vp9": 24, "mjpeg": 3, "copy": 0}
# x264's 0 is lossless, in a profile that NVDEC does not decode.
_QUALITIES = {"h264": (1, 51), "hevc": (0, 51), "vp9": (0, 63), "mjpeg": (2, 31), "copy": (0, 0)}
_MAX_SHORT_SIDE_PX = 2160
_MAX_GOP = 250


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How videos are stored.

    Attributes:
        codec: "h264", "hevc", "vp9", "mjpeg" (4:2:0, 8 bit, constant frame rate, closed groups of
            pictures without B-frames, no audio, upright, sides multiples of 16) or "copy" (the
            file as it is, only checked). DALI decodes vp9 and mjpeg on the CPU, all on the GPU.
        quality: the encoder's own scale, lower is better and larger: CRF 1 to 51 for h264, 0 to 51
            for hevc, 0 to 63 for vp9, quantiser 2 to 31 for mjpeg; -1 = 18, 20, 24, 3.
        gop: frames from one keyframe to the next; a window starts at most gop - 1 frames early.
            mjpeg has keyframes only.
        short_side_px: upper bound of the shorter side, a multiple of 16.
        max_seconds: cut longer videos, None = do not.
        preset: x264's and x265's preset: speed against size.
    """

    codec: str = "h264"
    quality: int = -1
    gop: int = 16
    short_side_px: int = 256
    max_seconds: float | None = None
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InputError(f"recipe {self.codec!r}: choose one of {', '.join(CODECS)}")
        if self.quality == -1:
            object.__setattr__(self, "quality", _DEFAULT_QUALITY[self.codec])
        if self.codec == "copy" and (self.quality or self.max_seconds is not None):
            raise InputError(
                "recipe: copy keeps files as they are; leave out --quality and --max-seconds, or"
                " choose another recipe"
            )
        best, worst = _QUALITIES[self.codec]
        if not best <= self.quality <= worst:
            raise InputError(
                f"recipe: quality {self.quality}: choose {best} to {worst} for {self.codec}"
            )
        if not 1 <= self.gop <= _MAX_GOP:
            raise InputError(f"recipe: gop {self.gop}: choose 1 to {_MAX_GOP}")
        least = MIN_SIDE_PX[self.codec]
        if not least <= self.short_side_px <= _MAX_SHORT_SIDE_PX or self.short_side_px % STEP_PX:
            raise InputError(
                f"recipe: short side {self.short_side_px}: choose a multiple of {STEP_PX} from"
                f" {least} to {_MAX_SHORT_SIDE_PX} for {self.codec}"
            )
        if self.preset not in _PRESETS:
            raise InputError(f"recipe: preset {self.preset!r}: choose one of {', '.join(_PRESETS)}")
        if self.max_seconds is not None and not 0 < self.max_seconds < float("inf"):
            raise InputError(f"recipe: max seconds {self.max_seconds}: must be above 0")
