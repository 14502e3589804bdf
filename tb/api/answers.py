"""Answers of a trained classifier for video files."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from shards.counted import counted
from shards.errors import InputError

if TYPE_CHECKING:
    from tb.prediction.classifier import TrainedClassifier
    from tb.prediction.prediction import Answers, Prediction


def load_classifier(path: Path | str, *, device: str = "auto") -> "TrainedClassifier":
    """A trained classifier in eval mode: (N, 3, T, H, W) clips -> (N, K) probabilities.

    Its method `predict` takes video files or frames.

    Args:
        path: A stage's folder, a work folder (for its student), a checkpoint, or a file that
            `export` wrote.
        device: A torch device, or "auto": CUDA where there is one.
    """
    from loaders.devices import usable_device
    from tb.prediction.classifier import load_trained

    return load_trained(Path(path)).to(usable_device(device))


def predict(
    run: Path | str,
    videos: Sequence[Path | str],
    *,
    every_s: float | Fraction | None = None,
    clips: int | None = None,
    top: int | None = None,
    csv: Path | str | None = None,
    png: Path | str | None = None,
    device: str = "auto",
    engine: str = "auto",
    progress: "Callable[[Prediction], None] | None" = None,
) -> "Answers":
    """`tb predict`: the classes of video files. A bad file is listed, and the others go on.

    Args:
        run: What `load_classifier` takes.
        videos: Files, and folders with videos.
        every_s: Seconds of video for each answer. None: one answer for each video.
        clips: Clips for each answer. None: see `TrainedClassifier.predict`.
        top: Classes of each answer in `csv` and `png`; default 5.
        csv: A CSV file to write.
        png: A picture to write: frames with classes; with `every_s`, classes over time.
        device: A torch device, or "auto".
        engine: "fused", "reference", or "auto" for fused.
        progress: Called with each answer.

    Raises:
        InputError: An argument is unusable, or no video could be predicted.
    """
    from tb.named_paths import check_named_file, write_named_file
    from tb.prediction.prediction import Answers, BadVideo, csv_of_predictions
    from tb.reports.prediction_sheet import prediction_png

    num_classes = _num_classes(top, is_written=csv is not None or png is not None)
    if not videos:
        raise InputError("videos is empty: give files, or folders with videos")
    for path, argument in ((csv, "csv"), (png, "png")):
        if path is not None:
            check_named_file(Path(path), argument)
    classifier = load_classifier(run, device=device)
    answers = Answers(predictions=[], bad=[])
    for one in classifier.predict_each(videos, every_s=every_s, clips=clips, engine=engine):
        if isinstance(one, BadVideo):
            answers.bad.append(one)
        else:
            answers.predictions.append(one)
            if progress is not None:
                progress(one)
    if not answers.predictions:
        more = (
            f" (and {counted(len(answers.bad) - 1, 'more video')})" if len(answers.bad) > 1 else ""
        )
        raise InputError(f"no video could be predicted: {answers.bad[0].reason}{more}")
    if csv is not None:
        write_named_file(Path(csv), csv_of_predictions(answers.predictions, num_classes), "csv")
    if png is not None:
        picture = prediction_png(answers.predictions, num_classes, is_timeline=every_s is not None)
        write_named_file(Path(png), picture, "png")
    return answers


def _num_classes(top: int | None, *, is_written: bool) -> int:
    if top is None:
        return 5
    if not is_written:
        raise InputError(f"top is {top}, and nothing is written: give csv or png too")
    if top < 1:
        raise InputError(f"top is {top}: give 1 or more")
    return top
