"""`Prediction`: a classifier's answer for a video or a stretch of it; answers as CSV and JSON."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_DIGITS = 6  # of a probability in CSV and JSON


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The classes of one video, or of one stretch of it.

    Attributes:
        video: Its path as it was found; "frames" for an array of frames.
        begin_s: Where the stretch begins, in seconds; 0 for a whole video.
        end_s: Where it ends; None for an array of frames, which has no rate.
        probabilities: (K,) float32, which sum to 1.
        classes: K names.
    """

    video: str
    begin_s: float
    end_s: float | None
    probabilities: np.ndarray
    classes: tuple[str, ...]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` most probable classes (or all, if fewer), best first, with probabilities."""
        best = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[label], float(self.probabilities[label])) for label in best]

    @property
    def best(self) -> str:
        """The most probable class."""
        return self.top(1)[0][0]


@dataclass(frozen=True, kw_only=True)
class BadVideo:
    """A video without an answer.

    Attributes:
        video: Its path as it was found.
        reason: Why, in one line that names the video.
    """

    video: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was found for some videos.

    Attributes:
        predictions: One for each video, or for each stretch; a video's stretches in their order.
        bad: The videos without an answer.
    """

    predictions: list[Prediction]
    bad: list[BadVideo]


def csv_of_predictions(predictions: Sequence[Prediction], top: int) -> bytes:
    """A CSV file with a line for each prediction and each of its `top` classes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["video", "begin_s", "end_s", "rank", "class", "probability"])
    for one in predictions:
        where = [one.video, _rounded(one.begin_s), _rounded(one.end_s)]
        for rank, (name, probability) in enumerate(one.top(top), 1):
            writer.writerow([*where, rank, name, _rounded(probability)])
    return text.getvalue().encode()


def json_of_answers(answers: Answers, top: int) -> str:
    """The answers as one JSON object: "predictions" and "bad"."""
    tree = {
        "predictions": [
            {
                "video": one.video,
                "begin_s": _rounded(one.begin_s),
                "end_s": _rounded(one.end_s),
                "top": [
                    {"class": name, "probability": _rounded(share)} for name, share in one.top(top)
                ],
            }
            for one in answers.predictions
        ],
        "bad": [vars(one) for one in answers.bad],
    }
    return json.dumps(tree, indent=1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
