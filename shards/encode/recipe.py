"""`Recipe`: how videos are stored, which choices are allowed, and the defaults."""

from dataclasses import asdict, dataclass
from functools import cached_property

from shards.encode.codecs import CODECS, Codec, EncoderSettings
from shards.encode.geometry import STEP_PX
from shards.errors import InputError

DEFAULT_CODEC = "h264"
DEFAULT_QUALITY = {"h264": 18, "hevc": 20, "vp9": 24, "mjpeg": 3}
DEFAULT_GOP = 16
DEFAULT_SHORT_SIDE_PX = 256
DEFAULT_PRESET = "veryfast"
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower")
MAX_SHORT_SIDE_PX = 2160
MAX_ENCODED_FPS = 60
_MAX_GOP = 250


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How videos are stored.

    None means the default of the codec. Where the codec has no such setting, the value must be None
    and stays None: "copy" has none of them, mjpeg has no gop, and only h264 and hevc have a preset.

    Attributes:
        codec: "h264", "hevc", "vp9", "mjpeg" or "copy". "copy" keeps a file as it is and only
            checks it. All others are 4:2:0 with 8 bits and a constant frame rate, upright, without
            B-frames and audio, with sides that are multiples of 16. DALI decodes h264, hevc and
            vp9 on a GPU, and vp9 and mjpeg on the CPU.
        quality: The quality on the scale of the encoder: CRF 1 to 51 for h264, 0 to 51 for hevc, 0
            to 63 for vp9, quantiser 2 to 31 for mjpeg. A lower number means better pictures and
            larger files. The default is 18 for h264, 20 for hevc, 24 for vp9, 3 for mjpeg.
        gop: Frames from one keyframe to the next, 16 by default. Decoding of a window starts at
            most gop - 1 frames early.
        short_side_px: The upper bound of the shorter side, a multiple of 16, 256 by default.
        max_seconds: Longer videos are cut; None means that they are not. Not for "copy".
        preset: The preset of x264 or x265, which trades speed for size; "veryfast" by default.
        fps: Frames per second of every stored video, 1 to 60. If a source has another rate, its
            frames are dropped or repeated by their times. None keeps the rate of a source, up to
            60. Not for "copy".

    Raises:
        InputError: A value is not allowed, or the codec has no such setting.
    """

    codec: str = DEFAULT_CODEC
    quality: int | None = None
    gop: int | None = None
    short_side_px: int | None = None
    max_seconds: float | None = None
    preset: str | None = None
    fps: int | None = None

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise InputError(f"recipe {self.codec!r}: choose one of {', '.join(CODECS)}")
        codec = self.codec_type
        self._fill("quality", DEFAULT_QUALITY.get(self.codec))
        self._fill("gop", DEFAULT_GOP if codec.has_gop else None)
        self._fill("preset", DEFAULT_PRESET if codec.has_preset else None)
        self._fill("short_side_px", None if codec.keeps_files else DEFAULT_SHORT_SIDE_PX)
        if codec.keeps_files:
            self._fill("max_seconds", None)
            self._fill("fps", None)
        self._check(codec)

    def _fill(self, name: str, default: int | str | None) -> None:
        """Puts the default in if there is no value, and refuses a value if there is no default."""
        if getattr(self, name) is None:
            object.__setattr__(self, name, default)
        elif default is None:
            words = name.removesuffix("_px").replace("_", " ")
            raise InputError(
                f"recipe {self.codec}: it has no {words}; leave that out, or choose another recipe"
            )

    def _check(self, codec: Codec) -> None:
        for name in ("quality", "gop", "short_side_px", "fps"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:  # True is an int too
                raise InputError(f"recipe: {name} is {value!r}: give a whole number")
        quality, side, least = self.quality, self.short_side_px, codec.min_side_px
        if quality is not None and not codec.best_quality <= quality <= codec.worst_quality:
            raise InputError(
                f"recipe: quality {quality}: choose {codec.best_quality} to"
                f" {codec.worst_quality} for {self.codec}"
            )
        if self.gop is not None and not 1 <= self.gop <= _MAX_GOP:
            raise InputError(f"recipe: gop {self.gop}: choose 1 to {_MAX_GOP}")
        if side is not None and (not least <= side <= MAX_SHORT_SIDE_PX or side % STEP_PX):
            raise InputError(
                f"recipe: short side {side}: choose a multiple of {STEP_PX} from {least} to"
                f" {MAX_SHORT_SIDE_PX} for {self.codec}"
            )
        if self.preset is not None and self.preset not in _PRESETS:
            raise InputError(f"recipe: preset {self.preset!r}: choose one of {', '.join(_PRESETS)}")
        if self.max_seconds is not None and not 0 < self.max_seconds < float("inf"):
            raise InputError(f"recipe: max seconds {self.max_seconds}: must be above 0")
        fps = self.fps
        if fps is not None and not 1 <= fps <= MAX_ENCODED_FPS:
            raise InputError(
                f"recipe: fps {fps}: choose a whole number from 1 to {MAX_ENCODED_FPS}"
            )

    def to_json(self) -> dict[str, str | int | float | None]:
        """The values as dataset.json has them.

        A null `fps` is left out: a setting that is not used must not change a fingerprint.
        """
        values = asdict(self)
        return {name: value for name, value in values.items() if name != "fps" or value is not None}

    @cached_property
    def codec_type(self) -> Codec:
        """What differs between the codec of this recipe and the others."""
        return CODECS[self.codec]

    def encoder_options(self) -> dict[str, str]:
        """The options of the encoder, as FFmpeg spells them."""
        settings = EncoderSettings(
            quality=self.quality or 0, gop=self.gop or 0, preset=self.preset or ""
        )
        return self.codec_type.options(settings)
