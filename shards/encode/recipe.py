"""How videos are stored: the choices, and which of them are allowed. See `codecs` for defaults."""

from dataclasses import dataclass

from shards.encode.codecs import CODECS, Codec, EncoderSettings
from shards.encode.geometry import STEP_PX
from shards.errors import InputError

_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")
_DEFAULT_QUALITY = -1
_MAX_SHORT_SIDE_PX = 2160
_MAX_GOP = 250


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How videos are stored.

    Attributes:
        codec: "h264", "hevc", "vp9", "mjpeg" or "copy". "copy" keeps a file as it is and only
            checks it. All others are 4:2:0 with 8 bits and a constant frame rate, upright, without
            B-frames and audio, with sides that are multiples of 16. DALI decodes all of them on
            the GPU, and vp9 and mjpeg on the CPU too.
        quality: On the scale of the encoder, where lower is better and larger: CRF 1 to 51 for
            h264, 0 to 51 for hevc, 0 to 63 for vp9, quantiser 2 to 31 for mjpeg. -1 means the
            default of the codec: 18, 20, 24, 3.
        gop: Frames from one keyframe to the next; decoding of a window starts at most gop - 1
            frames early. mjpeg has only keyframes.
        short_side_px: The upper bound of the shorter side, a multiple of 16.
        max_seconds: Longer videos are cut; None means that they are not.
        preset: x264's and x265's preset: speed against size.

    Raises:
        InputError: A value is not allowed.
    """

    codec: str = "h264"
    quality: int = _DEFAULT_QUALITY
    gop: int = 16
    short_side_px: int = 256
    max_seconds: float | None = None
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InputError(f"recipe {self.codec!r}: choose one of {', '.join(CODECS)}")
        codec = self.how
        if self.quality == _DEFAULT_QUALITY:
            object.__setattr__(self, "quality", codec.default_quality)
        if codec.keeps_files and (self.quality or self.max_seconds is not None):
            raise InputError(
                "recipe: copy keeps files as they are; leave out --quality and --max-seconds, or"
                " choose another recipe"
            )
        if not codec.best_quality <= self.quality <= codec.worst_quality:
            raise InputError(
                f"recipe: quality {self.quality}: choose {codec.best_quality} to"
                f" {codec.worst_quality} for {self.codec}"
            )
        if not 1 <= self.gop <= _MAX_GOP:
            raise InputError(f"recipe: gop {self.gop}: choose 1 to {_MAX_GOP}")
        least, side = codec.min_side_px, self.short_side_px
        if not least <= side <= _MAX_SHORT_SIDE_PX or side % STEP_PX:
            raise InputError(
                f"recipe: short side {side}: choose a multiple of {STEP_PX} from {least} to"
                f" {_MAX_SHORT_SIDE_PX} for {self.codec}"
            )
        if self.preset not in _PRESETS:
            raise InputError(f"recipe: preset {self.preset!r}: choose one of {', '.join(_PRESETS)}")
        if self.max_seconds is not None and not 0 < self.max_seconds < float("inf"):
            raise InputError(f"recipe: max seconds {self.max_seconds}: must be above 0")

    @property
    def how(self) -> Codec:
        """What the codec of this recipe is like."""
        return CODECS[self.codec]

    def encoder_options(self) -> dict[str, str]:
        """The options of the encoder, as FFmpeg spells them."""
        settings = EncoderSettings(quality=self.quality, gop=self.gop, preset=self.preset)
        return self.how.options(settings)
