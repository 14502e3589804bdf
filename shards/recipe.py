"""How videos are stored: the choices, with their checks."""

from dataclasses import dataclass

from shards.errors import InputError
from shards.geometry import MIN_SIDE_PX, STEP_PX

CODECS = ("h264", "copy")
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")
_MAX_SHORT_SIDE_PX = 2160
_MAX_GOP = 250
_MAX_CRF = 51


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How videos are stored.

    Attributes:
        codec: "h264" (yuv420p, constant frame rate, closed GOPs without B-frames, no audio,
            upright, sides multiples of 16) or "copy" (the file as it is, only checked).
        crf: x264's quality, 0 to 51, lower is better and larger.
        gop: frames from one keyframe to the next; a window starts at most gop - 1 frames early.
        short_side_px: upper bound of the shorter side, a multiple of 16.
        max_seconds: cut longer videos, None = do not.
        preset: x264's preset: speed against size.
    """

    codec: str = "h264"
    crf: int = 18
    gop: int = 16
    short_side_px: int = 256
    max_seconds: float | None = None
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InputError(f"recipe {self.codec!r}: choose one of {', '.join(CODECS)}")
        if not 0 <= self.crf <= _MAX_CRF:
            raise InputError(f"recipe: crf {self.crf}: choose 0 to {_MAX_CRF}")
        if not 1 <= self.gop <= _MAX_GOP:
            raise InputError(f"recipe: gop {self.gop}: choose 1 to {_MAX_GOP}")
        if (
            not MIN_SIDE_PX <= self.short_side_px <= _MAX_SHORT_SIDE_PX
            or self.short_side_px % STEP_PX
        ):
            raise InputError(
                f"recipe: short side {self.short_side_px}: choose a multiple of {STEP_PX} from"
                f" {MIN_SIDE_PX} to {_MAX_SHORT_SIDE_PX}"
            )
        if self.preset not in _PRESETS:
            raise InputError(f"recipe: preset {self.preset!r}: choose one of {', '.join(_PRESETS)}")
        if self.max_seconds is not None and not 0 < self.max_seconds < float("inf"):
            raise InputError(f"recipe: max seconds {self.max_seconds}: must be above 0")
        if self.codec == "copy" and self.max_seconds is not None:
            raise InputError("recipe: copy keeps files as they are; --max-seconds needs h264")
