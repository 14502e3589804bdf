"""What a classifier is shown: from settings, from a checkpoint, and from an export."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from loaders.plan.normalization import NORMALIZATIONS
from loaders.plan.stage_views import evaluation
from shards.errors import InputError
from tb.config.load_config import dump_yaml, load_config
from tb.method.streams import clip_views, pretrain_views
from tb.weights.classifier_input import ClassifierInput

FILE = Path("a.safetensors")
SETTINGS = (
    "classify.clips.stride=null",
    "evaluation.num_clips=4",
    "evaluation.num_crops=3",
    "normalization=kinetics",
)


def test_a_checkpoint_and_its_work_folder_say_what_the_settings_say(tmp_path: Path) -> None:
    config = load_config("demo", SETTINGS)
    expected = ClassifierInput.of(config)
    assert expected.views() == replace(
        evaluation(num_frames=8, stride=None, size_px=32, num_clips=4, num_crops=3),
        normalization=NORMALIZATIONS["kinetics"],
    )
    record = {"classify": config.classify.model_dump(mode="json"), **config.input_settings()}
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    path = tmp_path / "student" / "checkpoint.pt"
    assert ClassifierInput.of_checkpoint(path, record) == expected
    # A file that was moved is not asked about the folders that happen to be above it.
    moved = ClassifierInput.of_checkpoint(path.with_name("mine.pt"), record)
    assert moved == replace(expected, num_clips=10, num_crops=1)
    assert ClassifierInput.of_checkpoint(path, {}) is None


@pytest.mark.parametrize("name", [None, "imagenet"])
@pytest.mark.parametrize(("stride", "stride_s"), [(None, None), (3, None), (None, 0.125)])
def test_text_and_back(name: str | None, stride: int | None, stride_s: float | None) -> None:
    shown = ClassifierInput(
        num_frames=5,
        stride=stride,
        stride_s=stride_s,
        size_px=40,
        num_clips=2,
        num_crops=1,
        normalization=None if name is None else NORMALIZATIONS[name],
    )
    assert ClassifierInput.of_json(shown.to_json(), FILE) == shown
    assert shown.with_clips(7) == replace(shown, num_clips=7)
    assert shown.with_clips(None) == shown


def test_a_stride_in_seconds_goes_from_the_settings_to_all_views() -> None:
    config = load_config(
        "demo",
        [f"{name}.clips.stride=null" for name in ("pretrain", "classify")]
        + ["pretrain.clips.stride_s=0.05", "classify.clips.stride_s=0.1"],
    )
    record = {"classify": config.classify.model_dump(mode="json")}
    for shown in (
        ClassifierInput.of(config),
        ClassifierInput.of_checkpoint(Path("a/b/mine.pt"), record),
    ):
        assert shown is not None
        assert (shown.views().stride_s, shown.views().whole) == (0.1, False)
    assert pretrain_views(config).stride_s == 0.05
    assert clip_views(config).stride_s == 0.1


def test_bad_text_is_refused() -> None:
    good = asdict(ClassifierInput.of(load_config("demo")))
    for changes in (
        {"num_crops": 2},
        {"stride_s": 0.1},
        {"size_px": "wide"},
        {"surprise": 1},
        {"num_frames": 0},
    ):
        with pytest.raises(InputError):
            ClassifierInput.of_json(json.dumps({**good, **changes}), FILE)
    for name in good:
        lacking = {key: value for key, value in good.items() if key != name}
        with pytest.raises(InputError, match=name):
            ClassifierInput.of_json(json.dumps(lacking), FILE)
    for text in ("", "[1]", "{}"):
        with pytest.raises(InputError, match=r"a\.safetensors: not the input of a classifier"):
            ClassifierInput.of_json(text, FILE)
