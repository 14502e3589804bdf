"""What happens to videos that cannot be read or decoded: raise, or skip, count and list them.

A bad video is never swapped for another one: that would change the data in silence.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from loaders.decode import DecodeError
from shards.errors import InputError
from shards.format.video import Video
from shards.reader import ShardError

OnError = Literal["raise", "skip"]


class LoaderError(InputError):
    """A video cannot be read or decoded (names its key and shard), or too many cannot."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The policy, and what has happened so far.

    Attributes:
        on_error: "raise" at the first bad video, or "skip" it.
        max_bad_share: With "skip": the share of an epoch's videos above which the run fails.
        bad_list: With "skip": a file that gets a line {"key", "reason"} for each bad video.
        bad: Key -> reason of every video skipped.
    """

    on_error: OnError = "raise"
    max_bad_share: float = 0.1
    bad_list: Path | None = None
    bad: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise InputError(f"on_error is {self.on_error!r}: choose raise or skip")
        if not 0 <= self.max_bad_share <= 1:
            raise InputError(f"max_bad_share is {self.max_bad_share}: give a share, 0 to 1")

    def note(self, video: Video, error: DecodeError | ShardError) -> None:
        """Raises LoaderError, or writes the video down as skipped."""
        # A ShardError names key and shard itself.
        named = isinstance(error, ShardError)
        reason = str(error) if named else f"{video.key} in {video.shard}: {error}"
        if self.on_error == "raise":
            raise LoaderError(reason) from error
        if video.key not in self.bad and self.bad_list is not None:
            line = json.dumps({"key": video.key, "reason": reason}) + "\n"
            try:
                # One write a line, so that several ranks may share the file.
                with self.bad_list.open("a", encoding="utf-8") as file:
                    file.write(line)
            except OSError as problem:
                raise InputError(
                    f"bad_list {self.bad_list}: {problem.strerror}; give a file in a folder that "
                    "exists and may be written"
                ) from problem
        self.bad[video.key] = reason

    def check(self, bad_of_epoch: Mapping[int, int], num_videos: float) -> None:
        """Raises LoaderError where an epoch has more bad ones than its share of `num_videos`."""
        for epoch, count in bad_of_epoch.items():
            if count > self.max_bad_share * num_videos:
                reason = next(reversed(self.bad.values()))
                raise LoaderError(
                    f"{count} bad videos in epoch {epoch}, more than max_bad_share "
                    f"{self.max_bad_share:g} of {num_videos:.0f}; the last: {reason}"
                )
