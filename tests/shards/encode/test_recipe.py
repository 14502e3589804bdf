"""Recipes: the defaults of each codec, and what is refused."""

from dataclasses import asdict, replace

import pytest

from shards.encode.codecs import CODECS
from shards.encode.recipe import Recipe
from shards.errors import InputError
from shards.format.packets import INDEXED_CODECS


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "h266"},
        {"quality": 52},
        {"quality": 0},
        {"codec": "mjpeg", "quality": 1},
        {"codec": "hevc", "short_side_px": 128},
        {"gop": 0},
        {"short_side_px": 100},
        {"short_side_px": 48},
        {"preset": "placebo"},
        {"max_seconds": 0.0},
        {"max_seconds": float("inf")},
        {"codec": "copy", "max_seconds": 3.0},
        {"quality": -1},
        {"fps": 0},
        {"fps": 61},
        {"fps": 29.97},
        {"fps": True},
        {"gop": 16.0},
        {"quality": True},
        {"short_side_px": 128.0},
        {"codec": "copy", "fps": 25},
    ],
)
def test_impossible_recipes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"^recipe"):
        Recipe(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codec", "argument", "value"),
    [
        ("copy", "quality", 0),
        ("copy", "gop", 16),
        ("copy", "short_side_px", 256),
        ("copy", "max_seconds", 3.0),
        ("copy", "fps", 25),
        ("copy", "preset", "veryfast"),
        ("mjpeg", "gop", 16),
        ("mjpeg", "preset", "veryfast"),
        ("vp9", "preset", "veryfast"),
    ],
)
def test_an_argument_that_a_codec_does_not_have_is_refused(
    codec: str, argument: str, value: object
) -> None:
    words = argument.removesuffix("_px").replace("_", " ")
    with pytest.raises(InputError, match=f"^recipe {codec}: it has no {words}; leave that out"):
        Recipe(codec=codec, **{argument: value})  # type: ignore[arg-type]


def test_a_recipe_has_the_defaults_of_its_codec() -> None:
    common = {
        "gop": 16,
        "short_side_px": 256,
        "max_seconds": None,
        "preset": "veryfast",
        "fps": None,
    }
    assert asdict(Recipe()) == {"codec": "h264", "quality": 18, **common}
    assert asdict(Recipe(codec="hevc")) == {"codec": "hevc", "quality": 20, **common}
    vp9 = {**common, "codec": "vp9", "quality": 24, "preset": None}
    assert asdict(Recipe(codec="vp9")) == vp9
    assert asdict(Recipe(codec="mjpeg")) == {**vp9, "codec": "mjpeg", "quality": 3, "gop": None}
    copy = Recipe(codec="copy")
    assert {value for name, value in asdict(copy).items() if name != "codec"} == {None}
    assert replace(copy) == copy


def test_a_recipe_without_a_rate_is_written_as_before_there_was_one() -> None:
    assert "fps" not in Recipe().to_json()
    assert Recipe(fps=12).to_json() == {**Recipe().to_json(), "fps": 12}


def test_a_manifest_takes_a_packet_index_of_every_encoded_codec() -> None:
    assert set(INDEXED_CODECS) == {name for name, codec in CODECS.items() if not codec.keeps_files}
