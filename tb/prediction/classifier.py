"""A trained classifier from a file, ready to use: clips, video files or frames to probabilities."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from loaders import Render
from shards.cpus import num_cpus
from shards.errors import InputError
from shards.files.path_kinds import is_file, is_folder
from tb.networks.backbones import identified_backbone
from tb.networks.heads import Classifier, to_channels_last
from tb.prediction.prediction import BadVideo, Prediction
from tb.prediction.video_clips import (
    ShownClips,
    clips_of_frames,
    find_videos,
    render_of,
    stretches,
    video_name,
    whole_video,
)
from tb.stage_kinds import StageKind
from tb.weights.checkpoint import CHECKPOINT, fitting, load_checkpoint, run_settings_of
from tb.weights.classifier_input import ClassifierInput
from tb.weights.export import SUFFIX, classifier_name

Place = str | PathLike[str]
# The network sees so many stretches at once: enough for a GPU, and few enough for the memory.
_STRETCHES_AT_ONCE = 8


class TrainedClassifier(nn.Module):
    """A classifier in eval mode, which maps clips to probabilities.

    Attributes:
        network: The network, which gives logits.
        classes: K class names, in the order of the probabilities.
        shown: The clips that it is shown; None if its file does not record them.
    """

    def __init__(
        self, network: Classifier, classes: tuple[str, ...], shown: ClassifierInput | None = None
    ) -> None:
        super().__init__()
        self.network = to_channels_last(network).requires_grad_(False)
        self.classes = classes
        self.shown = shown
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where its weights are; clips must be there too."""
        return next(self.network.parameters()).device

    if TYPE_CHECKING:  # torch types calls of a module as Any

        def __call__(self, clips: Tensor) -> Tensor:
            """See `forward`."""
            ...

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Tensor:
        """Clips to probabilities.

        Args:
            clips: (N, 3, T, H, W) float32 RGB in [0, 1], or with the normalization in `shown`.

        Returns:
            (N, K) float32 probabilities, whose rows sum to 1.
        """
        probabilities: Tensor = self.network(clips).float().softmax(-1)
        return probabilities

    def predict(
        self,
        videos: Place | np.ndarray | Sequence[Place | np.ndarray],
        *,
        every_s: float | Fraction | None = None,
        clips: int | None = None,
        engine: str = "auto",
    ) -> list[Prediction]:
        """The classes of videos. Each gets the clips that evaluation takes, and their mean softmax.

        Args:
            videos: A file, a folder with videos, (F, H, W, 3) uint8 RGB frames of one video, or a
                list of these.
            every_s: Seconds of a file for each answer, as if each such stretch were a video. An
                hour of video takes as much memory as a minute. None: one answer for each video.
            clips: Clips for each answer. None: as many as evaluation takes for a whole video, and
                one from the middle of a stretch.
            engine: "fused", "reference", or "auto" for fused.

        Raises:
            InputError: A video cannot be decoded, or an argument is unusable.
        """
        found = []
        options = {"every_s": every_s, "clips": clips, "engine": engine}
        for one in self.predict_each(videos, **options):  # type: ignore[arg-type]
            if isinstance(one, BadVideo):
                raise InputError(one.reason)
            found.append(one)
        return found

    def predict_each(
        self,
        videos: Place | np.ndarray | Sequence[Place | np.ndarray],
        *,
        every_s: float | Fraction | None = None,
        clips: int | None = None,
        engine: str = "auto",
    ) -> Iterator[Prediction | BadVideo]:
        """Yields the answers of `predict` one by one, and a `BadVideo` for a video without answer.

        Raises:
            InputError: An argument is unusable.
        """
        if self.shown is None:
            raise InputError(
                "this classifier's file does not say which clips it is shown; load a checkpoint"
                " of this program, or an export that it has made from one"
            )
        if every_s is not None and not 0 < every_s < float("inf"):
            raise InputError(f"every is {every_s}: give a number of seconds above 0")
        things = [videos] if isinstance(videos, str | PathLike | np.ndarray) else list(videos)
        if every_s is not None:
            render = render_of(self.shown, 1 if clips is None else clips, engine)
            # The text "0.2" is 1/5. The float 0.2 is a little more, so a stretch would end late.
            return self._each_stretch(things, render, Fraction(str(every_s)))
        return self._each_video(things, render_of(self.shown, clips, engine))

    def _each_video(
        self, things: Sequence[Place | np.ndarray], render: Render
    ) -> Iterator[Prediction | BadVideo]:
        calls: list[Callable[[], ShownClips | BadVideo]] = []
        for thing in things:
            if isinstance(thing, np.ndarray):
                calls.append(partial(clips_of_frames, thing, render))
            else:
                paths = find_videos([Path(thing)])
                calls += [partial(_clips_or_reason, path, render) for path in paths]
        for clips in _ahead(calls):
            yield clips if isinstance(clips, BadVideo) else self._answers([clips])[0]

    def _each_stretch(
        self, things: Sequence[Place | np.ndarray], render: Render, every_s: Fraction
    ) -> Iterator[Prediction | BadVideo]:
        if any(isinstance(thing, np.ndarray) for thing in things):
            raise InputError("every is for files: frames in an array have no rate; leave it out")
        for path in find_videos([Path(thing) for thing in things]):  # type: ignore[arg-type]
            found = stretches(path, render, every_s)
            try:
                while part := list(islice(found, _STRETCHES_AT_ONCE)):
                    yield from self._answers(part)
            except InputError as error:
                yield BadVideo(video=video_name(path), reason=str(error))

    def _answers(self, several: Sequence[ShownClips]) -> list[Prediction]:
        """An answer for each: the mean of the probabilities over its clips."""
        clips = torch.cat([one.clips.flatten(0, 1) for one in several]).to(self.device)
        each = self(clips)
        means = each.view(len(several), -1, each.shape[1]).mean(1).cpu().numpy()
        return [
            Prediction(
                video=one.video,
                begin_s=one.begin_s,
                end_s=one.end_s,
                probabilities=mean,
                classes=self.classes,
            )
            for one, mean in zip(several, means, strict=True)
        ]


def load_trained(path: Path) -> TrainedClassifier:
    """The classifier in a file, on the CPU.

    Args:
        path: A stage's folder, a work folder (for its student), a checkpoint, or a file that
            `export_weights` wrote.

    Raises:
        InputError: The file is missing or not readable, or it holds no classifier.
    """
    if path.suffix == SUFFIX:
        return _load_export(path)
    if is_folder(path) and not is_file(path / CHECKPOINT):
        student = path / StageKind.STUDENT
        path = student if is_file(student / CHECKPOINT) else path
    checkpoint = path / CHECKPOINT if is_folder(path) else path
    state = load_checkpoint(checkpoint)
    shown = ClassifierInput.of_checkpoint(checkpoint, run_settings_of(state))
    return _classifier(checkpoint, state["backbone"], state["classes"], state["model"], shown)


def _load_export(path: Path) -> TrainedClassifier:
    if not is_file(path):
        raise InputError(f"{path}: no such file; make it with `tb export`")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        identity, classes = metadata["backbone"], json.loads(metadata["classes"])
    except (KeyError, ValueError):
        raise InputError(
            f"{path}: does not name its backbone and classes; make it with `tb export`"
        ) from None
    head = identified_backbone(identity).stock_head
    weights = {classifier_name(key, head): value for key, value in tensors.items()}
    shown = ClassifierInput.of_json(metadata["input"], path) if "input" in metadata else None
    return _classifier(path, identity, classes, weights, shown)


def _classifier(
    path: Path,
    identity: str,
    classes: list[str],
    weights: dict[str, Tensor],
    shown: ClassifierInput | None,
) -> TrainedClassifier:
    if not classes:
        raise InputError(f"{path}: a self-supervised network without classes; fine-tune it first")
    network = Classifier(identified_backbone(identity), len(classes))
    with fitting(path, network.backbone):
        network.load_state_dict(weights)
    return TrainedClassifier(network, tuple(classes), shown)


def _clips_or_reason(path: Path, render: Render) -> ShownClips | BadVideo:
    try:
        return whole_video(path, render)
    except InputError as error:
        return BadVideo(video=video_name(path), reason=str(error))


def _ahead(calls: Iterable[Callable[[], ShownClips | BadVideo]]) -> Iterator[ShownClips | BadVideo]:
    """Yields the results in order, while a thread for each CPU works on the next ones."""
    workers = num_cpus()
    running: deque[Future[ShownClips | BadVideo]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as threads:
        for call in calls:
            running.append(threads.submit(call))
            if len(running) > workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
