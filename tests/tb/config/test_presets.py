"""A preset for every row of the paper, and presets that build on others."""

from pathlib import Path

import pytest

from shards.errors import InputError
from tb.config.load_config import load_config, preset_names
from tb.config.sections import Config

# Labelled videos in the papers' lists (UCF101 1 %: one a class).
NUM_LABELLED = {
    "ucf101": {1: 101, 5: 476, 10: 953, 20: 1907, 50: 4768},
    "hmdb51": {40: 2094, 50: 2618, 60: 3141},
    "kinetics400": {1: 2400, 10: 24000},
}
NUM_TRAIN = {"ucf101": 9537, "hmdb51": 5236, "kinetics400": 240_000}
BACKBONES = {"r50": "slow_r50", "r18": "r3d_18"}
ROWS = [
    (data, depth, percent)
    for data, counts in NUM_LABELLED.items()
    for depth in BACKBONES
    for percent in counts
]


def test_there_is_a_preset_for_every_row_and_no_other() -> None:
    wanted = {f"{data}_{depth}_{percent}p" for data, depth, percent in ROWS}
    assert {name for name in preset_names() if name.startswith(tuple(NUM_LABELLED))} == wanted
    assert len(wanted) == 20


@pytest.mark.parametrize(("data", "depth", "percent"), ROWS)
def test_rows_of_the_paper(data: str, depth: str, percent: int) -> None:
    config = load_config(f"{data}_{depth}_{percent}p")
    assert config.backbone == BACKBONES[depth]
    assert (config.labels.percent, config.labels.split_number) == (percent, 1)
    # HMDB51's unlabelled videos include those that its lists leave unused; Kinetics' test list is
    # its official validation list.
    assert config.labels.split == ("pool" if data == "hmdb51" else "train")
    assert config.evaluation.split == ("val" if data == "kinetics400" else "test")
    assert (config.evaluation.num_clips, config.evaluation.num_crops) == (10, 1)
    assert config.pretrain.clips.size_px == (112 if depth == "r18" else 224)
    assert (config.pretrain.clips.num_frames, config.classify.clips.num_frames) == (16, 8)
    assert config.student.init == "tclr"

    pretrain, finetune, student = (
        stage.optim for stage in (config.pretrain, config.finetune, config.student)
    )
    assert (pretrain.batch_size, finetune.batch_size, student.batch_size) == (40, 16, 16)
    epoch = NUM_TRAIN[data] / pretrain.batch_size
    assert pretrain.warmup_steps == pytest.approx(10 * epoch, rel=0.01)
    num_epochs = 50 if data == "kinetics400" else 420
    assert pretrain.steps == pytest.approx(num_epochs * epoch, rel=0.01)
    epoch = NUM_LABELLED[data][percent] / finetune.batch_size
    assert finetune.steps == pytest.approx(150 * epoch, rel=0.01)
    assert student.steps == (max(10_000, finetune.steps) if data == "ucf101" else finetune.steps)
    for optim in (finetune, student):
        assert optim.warmup_steps == pytest.approx(optim.steps * 10 / 150, abs=5)
        assert optim.lr == 1e-3


@pytest.mark.parametrize("data", NUM_LABELLED)
def test_rows_of_one_set_differ_in_labels_and_steps_alone(data: str) -> None:
    def rest(config: Config) -> dict[str, object]:
        tree = config.model_dump()
        del tree["labels"]["percent"]
        for stage in ("finetune", "student"):
            del tree[stage]["optim"]["steps"], tree[stage]["optim"]["warmup_steps"]
        return tree

    for depth in BACKBONES:
        rows = [rest(load_config(f"{data}_{depth}_{p}p")) for p in NUM_LABELLED[data]]
        assert all(row == rows[0] for row in rows)


def test_a_preset_file_builds_on_a_preset_or_a_file_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "presets"
    folder.mkdir()
    (folder / "mine.yaml").write_text("base: hmdb51_r18_50p\nlabels: {seed: 3}\n")
    (folder / "other.yml").write_text("base: mine.yaml\nlabels: {percent: 7}\n")
    config = load_config(str(folder / "other.yml"), ["labels.seed=4"])
    labels = config.labels
    assert (labels.percent, labels.seed, labels.split) == (7, 4, "pool")
    assert config.backbone == "r3d_18"
    assert config.finetune == load_config("hmdb51_r50_50p").finetune


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("mine.yaml", "mine.yaml: is its own base"),
        ("absent.yaml", "absent.yaml: no such preset file"),
        ("ucf101_r50_20", "did you mean 'ucf101_r50_20p'"),
        ("3", "no preset"),
    ],
)
def test_a_base_that_is_not_there_is_named(tmp_path: Path, base: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(f"base: {base}\n")
    with pytest.raises(InputError) as caught:
        load_config(str(tmp_path / "mine.yaml"))
    assert message in str(caught.value)


def test_a_wrong_key_is_blamed_on_the_file_that_has_it(tmp_path: Path) -> None:
    (tmp_path / "low.yaml").write_text("labels: {persent: 5}\n")
    (tmp_path / "high.yaml").write_text("base: low.yaml\n")
    with pytest.raises(InputError, match=r"low\.yaml: no setting 'labels\.persent'"):
        load_config(str(tmp_path / "high.yaml"))
