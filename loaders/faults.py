"""Videos that cannot be read or decoded: raise an error, or skip, count and list them.

A loader raises unless `open_loader(on_error=...)` says otherwise. A bad video is never swapped for
another one, because that would change the data in silence.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from shards.decode.packet_decoder import DecodeError
from shards.errors import InputError
from shards.files.json_lines import append_line
from shards.format.video import Video
from shards.reader import ShardError

OnError = Literal["raise", "skip"]
"""What happens to bad videos: the first one ends the run, or all are skipped."""


class LoaderError(InputError):
    """A loader cannot go on.

    A video cannot be read or decoded (the message names its key and shard), too many cannot, or the
    loader is closed or was moved to another position.
    """


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Skip bad videos: their `valid` is False, their pixels are 0, and the run goes on.

    Attributes:
        max_bad_share: A rank fails when it meets more bad videos in an epoch than this share of
            the videos that it serves; in [0, 1].
        bad_list: A file that gets a line {"key", "reason"} for each bad video; None for no file.
    """

    max_bad_share: float = 0.1
    bad_list: Path | str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_bad_share <= 1:
            raise InputError(f"max_bad_share is {self.max_bad_share}: give a share, 0 to 1")


def skip_policy(on_error: str | Skip) -> Skip | None:
    """None to raise at the first bad video; "skip" stands for `Skip()`.

    Raises:
        InputError: `on_error` is something else.
    """
    if isinstance(on_error, Skip):
        return on_error
    if on_error not in get_args(OnError):
        raise InputError(f"on_error is {on_error!r}: choose raise, skip or Skip(...)")
    return Skip() if on_error == "skip" else None


@dataclass(frozen=True, kw_only=True)
class FaultLog:
    """The bad videos of one loader.

    Attributes:
        skip: The limits for skipping; None to raise at the first bad video.
        num_videos: Videos that an epoch serves on this rank; a video counts once for each clip.
        clips_per_video: How often a video counts.
        bad: Key -> reason of every video skipped so far.
    """

    skip: Skip | None
    num_videos: float
    clips_per_video: int = 1
    bad: dict[str, str] = field(default_factory=dict)

    def note(self, video: Video, error: DecodeError | ShardError) -> None:
        """Remembers a bad video, or raises LoaderError if none may be skipped."""
        # A ShardError already names the key and the shard.
        is_named = isinstance(error, ShardError)
        reason = str(error) if is_named else f"{video.key} in {video.shard}: {error}"
        if self.skip is None:
            raise LoaderError(reason) from error
        if video.key not in self.bad and self.skip.bad_list is not None:
            _append(Path(self.skip.bad_list), video.key, reason)
        self.bad[video.key] = reason

    def check(self, num_bad_of_epoch: Counter[int]) -> None:
        """Raises LoaderError if an epoch has more bad videos than it may have."""
        if self.skip is None:
            return
        for epoch, count in num_bad_of_epoch.items():
            if count > self.skip.max_bad_share * self.num_videos:
                reason = next(reversed(self.bad.values()))
                times = self.clips_per_video
                each = f" (a video counts {times} times, once for each clip)" if times > 1 else ""
                raise LoaderError(
                    f"{count} bad videos in epoch {epoch}, more than max_bad_share"
                    f" {self.skip.max_bad_share:g} of {self.num_videos:.0f}{each}; repair the"
                    f" shards or allow a larger share; the last: {reason}"
                )


def _append(path: Path, key: str, reason: str) -> None:
    try:
        append_line(path, {"key": key, "reason": reason})
    except OSError as error:
        raise InputError(
            f"bad_list {path}: {error.strerror}; give a file in a folder that exists and may be "
            "written"
        ) from error
