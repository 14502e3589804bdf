from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loaders.plan.normalization import NORMALIZATIONS, Normalization
from shards.errors import InputError
from tb.config.load_config import dump_yaml, load_config, preset_names, remember_config, work_config


def test_every_preset_loads_and_survives_a_round_trip(tmp_path: Path) -> None:
    assert "demo" in preset_names()
    for name in preset_names():
        config = load_config(name)
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump_yaml(config))
        assert load_config(str(path)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels.persent=5", "did you mean 'labels.percent'"),
        ("backbon=small", "did you mean 'backbone'"),
        ("optim.lr=1", "did you mean 'pretrain.optim' or 'finetune.optim' or 'student.optim'"),
        ("lr=1", "did you mean 'pretrain.optim.lr' or"),
        ("labels=5", "labels is a section: set one of labels.percent"),
        ("labels.percent", "write it as section.key=value"),
        ("labels.percent=0", "config labels.percent = 0"),
        ("labels.percent=many", "config labels.percent = 'many'"),
        ("pretrain.clips.augment.flip_p=2", "flip_p is 2"),
        ("student.teachers=oracle", "for an analysis --set labels.with_hidden=true too"),
        (
            "classify.clips.stride_s=0.1",
            "--set classify.clips.stride=null, or classify.clips.stride_s",
        ),
        (
            "pretrain.clips.stride_s=0.1",
            "pretrain.clips.stride is 1 and pretrain.clips.stride_s is",
        ),
        ("pretrain.clips.stride_s=0", "config pretrain.clips.stride_s = 0"),
        ("classify.clips.stride_s=-1", "config classify.clips.stride_s = -1"),
        ("classify.clips.stride_s=.nan", "config classify.clips.stride_s = nan"),
        ("classify.clips.stride_s=4000", "config classify.clips.stride_s = 4000"),
        ("pretrain.clips.stride=null", "pretrain.clips.stride_s are both null: --set one of them"),
        ("student.distance=l1", "config student.distance = 'l1'"),
        ("student.distance=[", "not valid YAML"),
        ("backbone.model_depth=101", "--set 'backbone={OPTION: VALUE, ...}'"),
        ("backbone=3", "config backbone"),
        ("normalization=kinetic", "normalization is 'kinetic': choose one of none, kinetics"),
        ("normalization.mean=[0, 0, 0]", "--set 'normalization={mean: [R, G, B], std: [R, G, B]}'"),
        ("normalization={mean: [0, 0, 0]}", "config normalization.std"),
        ("normalization={mean: [0, 0, 2], std: [1, 1, 1]}", "mean is (0.0, 0.0, 2.0): give three"),
        ("normalization={mean: [0, 0, 0], std: [1, 1]}", "config normalization.std"),
    ],
)
def test_wrong_settings_are_named_with_a_way_out(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, [text])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="no preset 'dem'; did you mean 'demo'"):
        load_config("dem")


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n", "surprise: 1\n"])
def test_bad_preset_files_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"mine\.yaml"):
        load_config(str(path))


@given(percent=st.floats(0.1, 100), steps=st.integers(1, 10**6), lr=st.floats(1e-6, 1.0))
def test_overrides_win_over_the_preset(percent: float, steps: int, lr: float) -> None:
    config = load_config(
        "demo",
        [f"labels.percent={percent}", f"finetune.optim.steps={steps}", f"finetune.optim.lr={lr!r}"],
    )
    assert config.labels.percent == percent
    assert config.finetune.optim.steps == steps
    assert config.finetune.optim.lr == lr
    assert config.backbone == "small"


def test_a_work_folder_remembers_its_settings(tmp_path: Path) -> None:
    first = work_config(tmp_path, "demo", ["labels.percent=7"])
    remember_config(tmp_path, first)
    assert work_config(tmp_path, None, []) == first
    second = work_config(tmp_path, None, ["labels.seed=3"])
    assert (second.labels.percent, second.labels.seed) == (7, 3)
    assert work_config(tmp_path, None, []) == first  # until a stage uses them


def test_many_writers_leave_a_whole_file(tmp_path: Path) -> None:
    configs = [load_config("demo", [f"labels.seed={seed}"]) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda config: remember_config(tmp_path, config), configs * 10))
    assert work_config(tmp_path, None, []) in configs


def test_an_empty_settings_file_is_not_taken_for_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(InputError, match=r"config\.yaml: not a YAML mapping"):
        work_config(tmp_path, None, [])


def test_a_backbone_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("backbone: {model_depth: 101, stem_dim_out: 8}\n")
    assert load_config(str(path)).backbone == {"model_depth": 101, "stem_dim_out": 8}
    assert load_config(str(path), ["backbone=small"]).backbone == "small"
    wider = load_config(str(path), ["backbone={stem_dim_out: 16}"])
    assert wider.backbone == {"stem_dim_out": 16}


def test_on_and_off_need_no_quotes() -> None:
    machine = load_config("demo", ["machine.compile=on", "machine.amp=off"]).machine
    assert (machine.compile, machine.amp) == ("on", "off")
    assert load_config("demo", ["machine.compile='off'"]).machine.compile == "off"
    with pytest.raises(InputError, match=r"config machine\.amp"):
        load_config("demo", ["machine.amp=on"])


@pytest.mark.parametrize(
    ("texts", "message", "way_out"),
    [
        (["machine.gpu_memory_mb=100"], "machine.gpu_memory_mb is 100", "machine.tune=true"),
        (
            ["machine.engine=fused", "machine.tune=true"],
            "machine.tune is true",
            "machine.engine=dali",
        ),
        (
            ["machine.in_process=true", "machine.max_kept_batches=3"],
            "machine.max_kept_batches is 3",
            "machine.in_process=false",
        ),
        (
            ["machine.compile=off", "machine.compile_mode=max-autotune"],
            "machine.compile_mode is 'max-autotune'",
            "machine.compile=on",
        ),
        (
            ["finetune.optim.schedule=cosine", "finetune.optim.patience=3"],
            "finetune.optim.patience is 3",
            "finetune.optim.schedule=plateau",
        ),
        (
            ["student.optim.schedule=constant", "student.optim.plateau_steps=3"],
            "student.optim.plateau_steps is 3",
            "student.optim.schedule=plateau",
        ),
        (["labels.with_hidden=true"], "labels.with_hidden is true", "student.teachers=oracle"),
    ],
)
def test_a_setting_without_effect_is_refused(texts: list[str], message: str, way_out: str) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, texts)
    assert message in str(caught.value)
    assert way_out in str(caught.value)
    load_config(None, [texts[-1], way_out])


def test_normalization_is_a_name_or_numbers(tmp_path: Path) -> None:
    named = load_config(None, ["normalization=kinetics"])
    assert named.normalization == NORMALIZATIONS["kinetics"]
    path = tmp_path / "kinetics.yaml"
    path.write_text(dump_yaml(named))
    assert load_config(str(path)) == named
    assert load_config(str(path), ["normalization=none"]) == load_config()
    numbers = load_config(str(path), ["normalization={mean: [0, 0.5, 1], std: [1, 1, 1]}"])
    assert numbers.normalization == Normalization(mean=(0, 0.5, 1), std=(1, 1, 1))
