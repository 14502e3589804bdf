import json
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shards.errors import InputError
from tb.config.sections import Config
from tb.training.metrics import METRICS, read_metrics
from tb.training.tracking import TENSORBOARD, check_installed, tracking

# Writes down its calls; it has the part of the real interface that is used here.
FAKE_WANDB = """
import json, os

class Error(Exception): ...

def note(what):
    with open(os.environ["FAKE_WANDB"], "a") as file:
        print(json.dumps(what), file=file)

class Run:
    def define_metric(self, name, step_metric=None): pass
    def log(self, row): note({"log": row})
    def finish(self): note({"finish": True})

def init(**options):
    note({"init": {name: options.get(name) for name in ("mode", "id", "project")}})
    if options.get("mode") != "offline" and "OFFLINE" in os.environ: raise Error("no network")
    return Run()
"""


def with_machine(config: Config, **changes: object) -> Config:
    return config.model_copy(update={"machine": config.machine.model_copy(update=changes)})


def test_tensorboard_shows_each_step_once_after_a_resume(config: Config, tmp_path: Path) -> None:
    for first, values in ((0, [1.0, 2.0, 3.0]), (2, [30.0, 40.0])):
        with tracking(tmp_path, config, first=first) as tracker:
            for step, value in enumerate(values, first):
                tracker.write({"step": step, "loss": value, "lr": 0.5})
    events = EventAccumulator(str(tmp_path / TENSORBOARD)).Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss")]
    assert found == [(0, 1.0), (1, 2.0), (2, 30.0), (3, 40.0)]
    assert [row["loss"] for row in read_metrics(tmp_path / METRICS)] == [1.0, 2.0, 30.0, 40.0]
    assert set(events.Tags()["scalars"]) == {"loss", "lr"}


def test_tensorboard_has_the_rows_before_a_checkpoint(config: Config, tmp_path: Path) -> None:
    with tracking(tmp_path, config, first=0) as tracker:
        tracker.write({"step": 0, "loss": 1.0})
        tracker.sync()
        events = EventAccumulator(str(tmp_path / TENSORBOARD)).Reload()
        assert [event.value for event in events.Scalars("loss")] == [1.0]


def test_tensorboard_can_be_switched_off(config: Config, tmp_path: Path) -> None:
    with tracking(tmp_path, with_machine(config, tensorboard=False), first=0) as tracker:
        tracker.write({"step": 0, "loss": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == [METRICS]


@pytest.mark.parametrize("offline", [False, True])
def test_wandb_gets_the_rows_also_without_a_network(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    (tmp_path / "wandb.py").write_text(FAKE_WANDB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setenv("FAKE_WANDB", str(tmp_path / "calls"))
    if offline:
        monkeypatch.setenv("OFFLINE", "1")
    ours = with_machine(config, wandb="videos", tensorboard=False)
    check_installed(ours.machine)
    for first in (0, 1):
        with tracking(tmp_path / "work" / "student", ours, first=first) as tracker:
            tracker.write({"step": first, "loss": 3.0})
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    begun = [call["init"] for call in calls if "init" in call]
    assert len({call["id"] for call in begun}) == 1
    assert begun[-1]["project"] == "videos"
    assert begun[-1]["mode"] == ("offline" if offline else None)
    assert [call["log"]["step"] for call in calls if "log" in call] == [0, 1]
    assert sum("finish" in call for call in calls) == 2
    monkeypatch.delitem(sys.modules, "wandb")


def test_a_tracker_that_is_not_installed_is_named(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tb.training.tracking.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"wandb is not installed: pip install"):
        check_installed(with_machine(config, wandb="videos").machine)
    with pytest.raises(InputError, match=r"tensorboard is not installed.*tensorboard=false"):
        check_installed(config.machine)
    check_installed(with_machine(config, tensorboard=False).machine)
