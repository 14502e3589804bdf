"""A run keeps the engine it began with, and says which it is and why."""

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loaders import DaliViews, TryLayouts
from loaders.engines import choice as engines
from loaders.engines.choice import EngineChoice
from loaders.engines.engine import EngineName
from loaders.engines.speeds import Speeds
from shards.errors import InputError
from shards.format.manifest import Manifest
from tb.config.load_config import load_config
from tb.config.sections import Config
from tb.evaluation.evaluate import evaluation_source
from tb.method.stages import build_stage
from tb.stage_kinds import StageKind
from tb.training import engine_record
from tb.training.engine_record import ENGINE, read_engine, with_engine_of, write_engine
from tb.training.loop import train
from tb.workflow.run import run_stage
from tests.tb.conftest import QUICK
from tests.tb.steps import StoppedError, stopping_at


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """The measured speeds, of two engines of the CPU in the place of dali and fused."""
    found = {"reference": 2.0, "fused": 1.0}
    monkeypatch.setattr(engines, "why_not_dali", lambda *_: "")
    monkeypatch.setattr(engines, "_MEASURED", (EngineName.REFERENCE, EngineName.FUSED))
    monkeypatch.setattr(engines, "kept_speeds", lambda *_: found)
    return found


def test_a_run_that_goes_on_keeps_its_engine(
    manifest: Manifest, config: Config, tmp_path: Path, speeds: Speeds
) -> None:
    stage = build_stage(StageKind.INVARIANT, manifest, config, tmp_path)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 3), tmp_path, config)
    folder = tmp_path / "invariant"
    record = json.loads((folder / ENGINE).read_text())
    why = "measured here, in videos/s: reference 2.0, fused 1.0"
    assert record == {"engine": "reference", "why": why}

    speeds["fused"] = 3.0
    other = build_stage(StageKind.DISTINCTIVE, manifest, config, tmp_path)
    assert {loader.choice.name for loader in other.loaders} == {"fused"}
    again = build_stage(StageKind.INVARIANT, manifest, config, tmp_path)
    assert {loader.choice.name for loader in again.loaders} == {"reference"}
    again.close()
    other.close()
    run_stage(StageKind.INVARIANT, manifest, config, tmp_path)
    assert json.loads((folder / ENGINE).read_text()) == record


def test_fine_tuning_is_measured_with_its_own_batches(
    manifest: Manifest,
    finished: Path,
    speeds: Speeds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Mapping[str, object]] = []

    def kept(key: Mapping[str, object], *_: object) -> Speeds:
        asked.append(key)
        return speeds

    monkeypatch.setattr(engines, "kept_speeds", kept)
    config = load_config("demo", (*QUICK, "finetune.optim.batch_size=3"))
    build_stage(StageKind.FINETUNE_INVARIANT, manifest, config, finished, name="new").close()
    assert [key["batch_size"] for key in asked] == [3]


def test_another_engine_than_the_runs_is_refused(
    manifest: Manifest, config: Config, tmp_path: Path, speeds: Speeds
) -> None:
    stage = build_stage(StageKind.INVARIANT, manifest, config, tmp_path)
    with pytest.raises(StoppedError):
        train(stopping_at(stage, 1), tmp_path, config)
    (tmp_path / "invariant" / ENGINE).unlink()
    speeds["fused"] = 3.0
    with pytest.raises(InputError, match="engine was 'reference', now 'fused'"):
        run_stage(StageKind.INVARIANT, manifest, config, tmp_path)


def test_evaluations_use_the_engine_of_the_run(
    finished: Path, manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    recorded = read_engine(finished / "student")
    assert recorded is not None
    assert recorded.why
    assert with_engine_of(finished / "student", manifest, config).machine.engine == recorded.name
    assert with_engine_of(tmp_path, manifest, config).machine.engine == "fused"
    write_engine(tmp_path, EngineChoice(name=EngineName.REFERENCE, why="slow"))
    (tmp_path / "checkpoint.pt").write_bytes(b"weights")
    assert with_engine_of(tmp_path, manifest, config).machine.engine == "reference"
    assert evaluation_source(tmp_path, manifest, config)["engine"] == "reference"


def test_an_engine_that_does_not_run_here_is_not_kept(
    manifest: Manifest, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_engine(tmp_path, EngineChoice(name=EngineName.DALI, why="faster"))
    monkeypatch.setattr(engine_record, "why_not_dali", lambda *_: "")
    assert with_engine_of(tmp_path, manifest, config).machine.engine == "dali"
    monkeypatch.setattr(engine_record, "why_not_dali", lambda *_: "there is no CUDA device")
    assert with_engine_of(tmp_path, manifest, config).machine.engine == "fused"


def test_a_run_keeps_what_makes_its_views(
    manifest: Manifest, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials find that the kernel is faster. Later they would find otherwise."""
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("triton")
    fastest, wanted = DaliViews.KERNEL, list[DaliViews | str | None]()

    def tried(engine: Any, _: object, __: object, layouts: TryLayouts) -> Any:
        wanted.append(layouts.views)
        return replace(engine, layout=replace(engine.layout, views=layouts.views or fastest))

    monkeypatch.setattr("loaders.engines.dali.trials.with_best_layout", tried)
    monkeypatch.setattr(engine_record, "why_not_dali", lambda *_: "")
    tuned = _changed(config, machine={"engine": "dali", "tune": True})

    def views(config: Config) -> set[str]:
        with closing(build_stage(StageKind.INVARIANT, manifest, config, tmp_path)) as stage:
            assert stage.engine is not None
            made = {loader.engine.layout.views for loader in stage.loaders}
            assert made == {stage.engine.views}
            (tmp_path / "invariant").mkdir(exist_ok=True)
            write_engine(tmp_path / "invariant", stage.engine)
            return made

    assert views(tuned) == {"kernel"}
    assert wanted == [None, "kernel"]
    fastest = DaliViews.OPERATORS
    assert views(tuned) == {"kernel"}
    assert views(_changed(config, machine={"engine": "dali"})) == {"kernel"}
    assert wanted == [None, "kernel", "kernel"]
    used = with_engine_of(tmp_path / "invariant", manifest, config)
    assert (used.machine.engine, used.machine.dali_views) == ("dali", "kernel")
    for named, expected in ((None, "kernel"), ("operators", "operators")):
        settings = _changed(config, machine={"engine": "dali", "dali_views": named})
        used = with_engine_of(tmp_path / "invariant", manifest, settings)
        assert used.machine.dali_views == expected
    assert _evaluation_engine(tmp_path / "invariant", manifest, config) == "dali (kernel)"
    assert views(_changed(config, machine={"engine": "dali", "dali_views": "operators"})) == {
        "operators"
    }


def test_auto_measures_fused_also_where_layouts_are_tried(
    manifest: Manifest, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("nvidia.dali")
    found, num_trials = {"dali": 1.0, "fused": 2.0}, 0

    def tried(engine: Any, *_: object) -> Any:
        nonlocal num_trials
        num_trials += 1
        return engine

    monkeypatch.setattr("loaders.engines.dali.trials.with_best_layout", tried)
    monkeypatch.setattr(engines, "why_not_dali", lambda *_: "")
    monkeypatch.setattr(engines, "kept_speeds", lambda *_: found)
    tuned = _changed(config, machine={"tune": True})

    def engine() -> tuple[str, bool]:
        nonlocal num_trials
        num_trials = 0
        with closing(build_stage(StageKind.INVARIANT, manifest, tuned, tmp_path)) as stage:
            assert stage.engine is not None
            return stage.engine.name, num_trials > 0

    assert engine() == ("fused", False)
    found["dali"] = 4.0
    assert engine() == ("dali", True)


@pytest.mark.parametrize("engine", ["auto", "fused"])
def test_layouts_to_try_are_refused_where_dali_does_not_run(
    manifest: Manifest, config: Config, tmp_path: Path, engine: str
) -> None:
    tuned = _changed(config, machine={"engine": engine, "tune": True, "device": "cpu"})
    with pytest.raises(InputError, match=r"this is fused \(.+\): --set machine.tune=false"):
        build_stage(StageKind.INVARIANT, manifest, tuned, tmp_path)


def _evaluation_engine(folder: Path, manifest: Manifest, config: Config) -> object:
    (folder / "checkpoint.pt").write_bytes(b"weights")
    return evaluation_source(folder, manifest, config)["engine"]


def test_dali_views_of_another_engine_are_refused(
    manifest: Manifest, config: Config, tmp_path: Path
) -> None:
    other = _changed(config, machine={"engine": "fused", "dali_views": "kernel"})
    with pytest.raises(
        InputError, match=r"machine\.dali_views is for the engine dali, and this is"
    ):
        build_stage(StageKind.INVARIANT, manifest, other, tmp_path)


def _changed(config: Config, machine: dict[str, object]) -> Config:
    return Config.model_validate(
        {**config.model_dump(), "machine": {**config.machine.model_dump(), **machine}}
    )


@pytest.mark.parametrize("content", [b"", b"[]", b'{"engine": "nvdec", "why": ""}', b"{}"])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ENGINE).write_bytes(content)
    with pytest.raises(InputError, match=r"engine\.json: not a record of an engine"):
        read_engine(tmp_path)
