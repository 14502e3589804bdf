"""The scale of a view's numbers: RGB in [0, 1], or what published weights were trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

from shards.errors import InputError

NONE = "none"
# A smaller deviation makes numbers that float16 does not hold.
_STD_RANGE = (0.001, 1.0)


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """A map of each channel: (value - mean) / std, for RGB in [0, 1].

    It is the last step of a view and changes only the numbers. So an erased rectangle, which is
    black, holds -mean / std. A row of a batch without a video holds 0.

    Attributes:
        mean: The means of R, G and B, in [0, 1].
        std: The standard deviations of R, G and B, in [0.001, 1].

    Raises:
        InputError: A value is out of range, or there are not three.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for name, low, high in (("mean", 0.0, 1.0), ("std", *_STD_RANGE)):
            object.__setattr__(self, name, _channels(name, getattr(self, name), low, high))


def _channels(name: str, values: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    try:
        channels = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        channels = ()
    if len(channels) != 3 or not all(low <= value <= high for value in channels):
        raise InputError(
            f"normalization: {name} is {values!r}: give three numbers from {low:g} to {high:g}"
        )
    return channels


NORMALIZATIONS = {
    # torchvision's networks for video, of which `r3d_18` is one.
    "kinetics": Normalization(mean=(0.43216, 0.394666, 0.37645), std=(0.22803, 0.22145, 0.216989)),
    # PyTorchVideo's networks, of which `slow_r50` is one. They too were trained on Kinetics.
    "pytorchvideo": Normalization(mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)),
    "imagenet": Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
}
"""Name -> what the published weights of a library expect."""


def named_normalization(value: str | Normalization | None) -> Normalization | None:
    """The normalization of a name ("none" for none), or the given one.

    Raises:
        InputError: There is none of that name.
    """
    if not isinstance(value, str):
        return value
    if value != NONE and value not in NORMALIZATIONS:
        raise InputError(
            f"normalization is {value!r}: choose one of {NONE}, {', '.join(NORMALIZATIONS)}, or"
            " give a mean and a std"
        )
    return NORMALIZATIONS.get(value)


def normalization_name(value: Normalization | None) -> str:
    """The name of a normalization, or its numbers as text."""
    names = {known: name for name, known in NORMALIZATIONS.items()}
    if value is None:
        return NONE
    return names.get(value, f"{{mean: {list(value.mean)}, std: {list(value.std)}}}")
