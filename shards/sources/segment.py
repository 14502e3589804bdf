"""`Segment`: a part of a video file, which is stored as a separate video."""

import re
from dataclasses import dataclass, field
from fractions import Fraction

from shards.errors import InputError

# Plain numbers only: an exponent could ask for a number with a billion digits.
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The frames of a file from one time to another one.

    The times count from the file's first frame. Let fps be the frame rate at which the whole file
    would be stored. The segment has the frames `first_frame(fps)` to `end_frame(fps) - 1` of it.
    So segments that follow each other share no frame and lose none.

    Attributes:
        start_s: Where it begins, s, from 0 on.
        end_s: Where it ends, s, not included; None for the end of the file.
        origin: Where the user asks for it, such as "line 7"; for messages.

    Raises:
        InputError: A time is neither a Fraction nor an int, the start is below 0, or the end is not
            after it.
    """

    start_s: Fraction
    end_s: Fraction | None = None
    origin: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("start_s", "end_s"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | Fraction):
                # The float 12.1 is not exactly 12.1, and names hold the exact time.
                raise InputError(f"{name} is {value!r}: give Fraction({str(value)!r})")
        if self.start_s < 0:
            raise InputError(self.problem("start_s", "must not be below 0"))
        if self.end_s is not None and self.end_s <= self.start_s:
            raise InputError(
                self.problem("end_s", f"must be greater than start_s {seconds_text(self.start_s)}")
            )

    def first_frame(self, fps: Fraction) -> int:
        """The frame nearest to `start_s`; of two that are equally near, the later one."""
        return _nearest(self.start_s * fps)

    def end_frame(self, fps: Fraction) -> int | None:
        """The frame after the last one, rounded in the same way; None for the end of the file."""
        return None if self.end_s is None else _nearest(self.end_s * fps)

    def problem(self, name: str, reason: str) -> str:
        """A message about the field `name`."""
        value = self.start_s if name == "start_s" else self.end_s
        where = f"{self.origin}: " if self.origin else ""
        return f"{where}{name} {'' if value is None else seconds_text(value)}: {reason}"

    def __str__(self) -> str:
        """The times as a media fragment (W3C): "t=12.5,20", or "t=12.5" up to the end."""
        end = "" if self.end_s is None else f",{seconds_text(self.end_s)}"
        return f"t={seconds_text(self.start_s)}{end}"

    @property
    def key_part(self) -> str:
        """The times as a part of a key: "12_5-20", or "12_5-end"."""
        end = "end" if self.end_s is None else seconds_text(self.end_s)
        return f"{seconds_text(self.start_s)}-{end}".replace(".", "_").replace("/", "_")


def segment_of(start: str, end: str, origin: str) -> Segment | None:
    """The segment that two texts give, such as "12.5" and "20".

    Args:
        start: Seconds; "" for the beginning.
        end: Seconds; "" for the end of the file.
        origin: See `Segment`.

    Returns:
        None if both texts are empty: the whole file.

    Raises:
        InputError: A text is not a number of seconds from 0 on, or the end is not after the start.
    """
    if not start and not end:
        return None
    for name, text in (("start_s", start), ("end_s", end)):
        if text and not _SECONDS.fullmatch(text):
            raise InputError(
                f"{origin}: {name} {text!r}: give seconds from 0 on, such as 12.5, or nothing"
            )
    return Segment(
        start_s=Fraction(start or 0), end_s=Fraction(end) if end else None, origin=origin
    )


def seconds_text(seconds: Fraction) -> str:
    """The exact number: as a decimal if it has one, else as a fraction."""
    places = next((n for n in range(10) if (seconds * 10**n).denominator == 1), None)
    if places is None:
        return str(seconds)
    text = f"{int(seconds * 10**places):0{places + 1}d}"
    return f"{text[:-places]}.{text[-places:]}" if places else text


def _nearest(number: Fraction) -> int:
    return int(number + Fraction(1, 2))  # not `round`, which takes the even one of two
