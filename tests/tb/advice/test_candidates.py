"""Which recipes are tried: from what the views can show, and no larger than the videos."""

import pytest

from loaders.plan.stage_views import NAMED_VIEWS, view_spec
from shards.encode.recipe import Recipe
from shards.errors import InputError
from tb.advice.candidates import candidates, name_of, options_of, reference_recipe


def _sides(views: str, size_px: int, largest_px: int) -> list[int]:
    recipes = candidates(view_spec(views, size_px), largest_px)
    return sorted({r.short_side_px for r in recipes if r.codec == "mjpeg" and r.short_side_px})


@pytest.mark.parametrize("views", NAMED_VIEWS)
@pytest.mark.parametrize("size_px", [8, 112, 224])
@pytest.mark.parametrize("largest_px", [64, 240, 1080])
def test_candidates_differ_and_none_is_larger_than_the_videos(
    views: str, size_px: int, largest_px: int
) -> None:
    recipes = candidates(view_spec(views, size_px), largest_px)
    assert len({name_of(recipe) for recipe in recipes}) == len(recipes)
    assert recipes[0] == Recipe(short_side_px=min(256, largest_px))
    assert all((recipe.short_side_px or 0) <= largest_px for recipe in recipes)
    assert {"h264", "mjpeg", "copy"} <= {recipe.codec for recipe in recipes}
    assert {8, 16, 32} <= {recipe.gop for recipe in recipes}


def test_sides_go_from_the_largest_crop_to_the_smallest() -> None:
    """Student crops keep 0.4 to 1.0 of a picture, pretraining 0.5 to 1.0, evaluation 0.8."""
    assert _sides("student", 112, 1080) == [112, 160, 208, 288]
    assert _sides("student", 112, 240) == [112, 160, 208, 240]
    assert [_sides("pretrain", 112, 1080)[i] for i in (0, -1)] == [112, 224]
    assert _sides("eval", 112, 1080) == [144]
    assert _sides("student", 8, 1080) == [64]


def test_the_reference_has_all_that_a_candidate_can_have() -> None:
    for views in NAMED_VIEWS:
        spec = view_spec(views, 112)
        most_px = reference_recipe(spec).short_side_px
        assert most_px is not None
        assert all((r.short_side_px or 0) <= most_px for r in candidates(spec, 2160))


def test_views_larger_than_any_stored_picture_are_refused() -> None:
    with pytest.raises(InputError, match=r"size is 2161 px \(--size\).*at most 2160"):
        reference_recipe(view_spec("student", 2161))
    assert reference_recipe(view_spec("student", 2160)).short_side_px == 2160


def test_options_give_the_recipe() -> None:
    fields = {"--recipe": "codec", "--gop": "gop", "--short-side": "short_side_px"}
    for recipe in candidates(view_spec("student", 112), 240):
        words = options_of(recipe)
        given = dict(zip(words[::2], words[1::2], strict=True))
        options = {fields[name]: int(x) if x.isdigit() else x for name, x in given.items()}
        assert Recipe(**options) == recipe  # type: ignore[arg-type]
