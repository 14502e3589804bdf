"""`Render`: one video to views, for pipelines that bring their own reader.

It needs no manifest and keeps no position. It runs on the CPU and in the thread that calls it, so
the workers of a DataLoader share the work.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loaders.decode import Footage, count_frames
from loaders.engines.choice import check_dtype
from loaders.engines.cpu import cpu_render_video
from loaders.engines.engine import RenderVideo
from loaders.faults import LoaderError
from loaders.plan.draw import check_seed, draw_plan
from loaders.plan.normalization import Normalization
from loaders.plan.stage_views import view_spec
from loaders.plan.views import ViewSpec
from loaders.plan.window import check_stride_s
from shards.counted import counted
from shards.decode.packet_decoder import DecodeError
from shards.errors import InputError
from shards.files.video_names import VIDEO_EXTENSIONS

Views = dict[str, torch.Tensor]
"""Group name -> (*group shape, 3, T, H, W), in memory as (..., T, H, W, 3)."""


def key_number(key: str) -> int:
    """A number in [0, 2**63) from a digest of a key."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1


class Render:
    """Renders single videos as some views, as the loader does.

    What is drawn for a video depends on (seed, epoch, number of its key, clip) and on nothing else.
    The loader's number is the row of the manifest. So if `number` gives the row of a key, the views
    are those of `open_loader` with the same seed, in the same epoch.

    Attributes:
        spec: The views.
        epoch: The epoch of samples from now on. A DataLoader's workers have copies: set it before
            the DataLoader is iterated, and do not keep its workers (`persistent_workers`).
    """

    def __init__(
        self,
        views: str | ViewSpec,
        *,
        seed: int = 0,
        number: Callable[[str], int] = key_number,
        size_px: int | None = None,
        normalization: str | Normalization | None = None,
        dtype: str = "float32",
        engine: str = "auto",
    ) -> None:
        """Opens nothing.

        Args:
            views: A name or a `ViewSpec`, as for `open_loader`.
            seed: The seed of the augmentation, in [0, 2**63).
            number: Key -> the number in [0, 2**63) on which a video's draws depend.
            size_px: Overrides the output size of `views`.
            normalization: Overrides the last step of `views`.
            dtype: The type of the views, as for `open_loader`.
            engine: "fused", "reference", or "auto" for fused.

        Raises:
            InputError: An argument is unusable.
        """
        check_seed(seed)
        self.spec = view_spec(views, size_px, normalization)
        check_dtype(dtype, self.spec)
        self.epoch = 0
        self._seed, self._number, self._dtype, self._engine = seed, number, dtype, engine
        self._render_video: RenderVideo | None = cpu_render_video(engine)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_render_video": None}  # a copy loads it from the cache on disk

    def __call__(self, sample: Mapping[str, Any]) -> dict[str, Any]:
        """A sample of the `webdataset` library with its views in the place of its video.

        Args:
            sample: "__key__", and the encoded video under its extension, e.g. "mp4". A "json" as
                `tb shard` writes it gives the number of frames and the frame rate.

        Returns:
            The other members as they were, and each group of views under its name.

        Raises:
            LoaderError: The video cannot be decoded; the message has its key.
            InputError: There is no video, or more than one.
        """
        key = str(sample.get("__key__", ""))
        videos = [name for name in sample if f".{name.lower()}" in VIDEO_EXTENSIONS]
        if len(videos) != 1:
            raise InputError(
                f"sample {key!r} has {counted(len(videos), 'video')} among {', '.join(sample)}:"
                " give one, under its extension (for example mp4)"
            )
        views = self.views(sample[videos[0]], key=key, epoch=self.epoch, **_about(sample))
        return {**{name: part for name, part in sample.items() if name != videos[0]}, **views}

    def views(
        self,
        video: bytes | Path | str,
        *,
        key: str | int,
        epoch: int,
        clip: int = 0,
        num_frames: int | None = None,
        fps: float | None = None,
    ) -> Views:
        """The views of one video.

        Args:
            video: The encoded video, or the path of its file.
            key: A name, or the number itself on which its draws depend.
            epoch: The epoch, from 0.
            clip: Which of the loader's `clips_per_video`, from 0.
            num_frames: How many frames it decodes to. None: as many as it has packets. If it cannot
                be rendered with that number, its frames are counted by decoding.
            fps: Its frames per second, only for views with `stride_s`. None: as its header says.

        Raises:
            LoaderError: It cannot be read or decoded; the message has the key.
            InputError: The epoch, clip or number is out of range, or `stride_s` does not fit the
                frame rate.
        """
        if num_frames is not None and num_frames < 1:
            raise InputError(f"{key}: num_frames is {num_frames}: give 1 or more, or None")
        try:
            data = video if isinstance(video, bytes) else Path(video).read_bytes()
            promised, size, header_fps = count_frames(data)
            fps = header_fps if fps is None else fps
            rendered = partial(self.footage, data, key=key, epoch=epoch, clip=clip, fps=fps)
            try:
                return rendered(num_frames or promised, size)
            except DecodeError:
                there, size, _ = count_frames(data, by_decoding=True)
                if there == (num_frames or promised):
                    raise
                return rendered(there, size)
        except OSError as error:
            raise LoaderError(f"{key}: {error.strerror or error}") from error
        except DecodeError as error:
            raise LoaderError(f"{key}: {error}") from error

    def footage(
        self,
        video: Footage,
        num_frames: int,
        size: Sequence[int],
        *,
        key: str | int,
        epoch: int,
        clip: int = 0,
        fps: float | None = None,
    ) -> Views:
        """The views of a video whose number of frames and (height, width) are known.

        Views with `stride_s` need its `fps` too.

        Raises:
            DecodeError: It does not decode to these frames.
            InputError: The epoch, clip or number is out of range, or `stride_s` does not fit the
                frame rate.
        """
        number = key if isinstance(key, int) else self._number(key)
        for name, value in (("key", number), ("epoch", epoch), ("clip", clip)):
            if not 0 <= value < 2**63:
                raise InputError(f"{name} is {value}: give a number in [0, 2**63)")
        spec = self.spec
        if spec.stride_s is not None:
            if fps is None:
                raise InputError(
                    f"stride_s is {spec.stride_s:g}, but video {key!r} has no known frame rate:"
                    " give its fps, or views with a stride in frames"
                )
            if not 0 < fps < 2**31:
                raise InputError(f"fps is {fps}: give the video's frames per second, more than 0")
            check_stride_s(spec, fps, f"video {key!r}")
        plan = draw_plan(
            spec,
            rows=np.array([number]),
            epochs=np.array([epoch]),
            clips=np.array([clip]),
            num_frames=np.array([num_frames]),
            heights=np.array([size[0]]),
            widths=np.array([size[1]]),
            seed=self._seed,
            fps=None if fps is None else np.array([fps]),
        )
        shape = (spec.num_frames, spec.size_px, spec.size_px, 3)
        out = [np.empty((len(group.offsets), *shape), self._dtype) for group in spec.groups]
        self._render_video = self._render_video or cpu_render_video(self._engine)
        self._render_video(video, plan, 0, out)
        return {
            group.name: torch.from_numpy(array).view(*group.shape, *shape).movedim(-1, -4)
            for group, array in zip(spec.groups, out, strict=True)
        }


def _about(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The "num_frames" and "fps" in the "json" of `tb shard`, without missing or bad ones."""
    about = sample.get("json")
    try:
        about = json.loads(about) if isinstance(about, bytes | str) else about
    except ValueError:
        about = None
    found: dict[str, Any] = {}
    match about:
        case {"num_frames": int(number)} if number > 0:
            found["num_frames"] = number
    match about:
        case {"fps": [int(numerator), int(denominator)]} if min(numerator, denominator) > 0:
            found["fps"] = numerator / denominator
    return found
